"""The restricted likelihood of genes and its derivatives, level by level; formulas and names as in `covariance`.

`layout` holds the arrays of `Units` from `first` to `E`; `sums` are tr V_1⁻¹V_j V_1⁻¹V_l for l <= j, what of it is on the fixed
columns, and U'V_1⁻¹V_j V_1⁻¹V_l V_1⁻¹U on y. `spread` is filled above its diagonal first.
"""

from __future__ import annotations

import numba
import numpy as np

_kernel = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract", "nsz", "arcp"})


@_kernel
def points(layout, n, XX, gamma, Ey, Uy, reml, derived, out):
    """Fill `out` for every gene, up to Q and η where no derivatives are asked for.

    XX is Q'Q of each group, n its cells; Ey holds Z'y of units (genes × rows), Uy Q'y and y'y of groups (genes × G × (p + 1)). y
    has the fixed columns projected out without weights.
    """
    first, component, G, p = layout[0], layout[1], len(n), XX.shape[1]
    ok, logdet, Q, trace, norm, squares, quad, eta, v, root, spread = out
    K, q = gamma.shape[1] - G + 1, len(component)
    P, wide = K + G, np.max(first[1:] - first[:-1])
    J, F, M, R = np.empty((q, wide)), np.empty((q, p + 1)), np.empty((p + 1, p + 1)), np.empty((p, p))
    w, btrace, sums, D = np.empty(G), np.empty(G), np.empty((3, P, P)), np.empty(q)
    for m in range(len(gamma)):
        w[G - 1] = 1.0
        good = True
        for k in range(K + G - 1):
            good &= gamma[m, k] > 0 or (k < K and gamma[m, k] == 0)
            if k >= K:
                w[k - K] = 1 / gamma[m, k]
        if not good:
            continue
        for a in range(q):
            D[a] = gamma[m, component[a]]
        total = _whole(w, n, XX, Uy[m], M)
        for i in range(len(first) - 1):
            total += _eliminate(i, layout, w, D, Ey[m], J, F, M)
        fixed = _whiten(M, R, eta[m], p)
        Q[m] = M[p, p]
        for s in range(p):
            Q[m] -= M[s, p] * eta[m, s]
        if not (fixed > -np.inf and Q[m] > 0 and np.isfinite(total)):
            continue
        ok[m], logdet[m] = True, total + fixed if reml else total
        if not derived:
            continue
        root[m] = R
        for a in range(q):
            _turn(F[a], R, eta[m], p)
            v[m, a] = F[a, p]
        trace[m], spread[m], sums[:], btrace[:] = 0.0, 0.0, 0.0, 0.0
        for i in range(len(first) - 1):
            _differentiate(i, layout, w, D, Ey[m], J, F, R, eta[m], trace[m], spread[m], sums, btrace)
        _finish(w, n, XX, Uy[m], R, eta[m], btrace, sums, trace[m], spread[m])
        _assemble(sums, spread[m], reml, trace[m], norm[m], squares[m], quad[m])


@_kernel
def _whole(w, n, XX, Uy, M):
    """M = Σ_g w_g U_g'U_g; Σ_g n_g log ρ_g."""
    total, p = 0.0, XX.shape[1]
    M[:] = 0.0
    for g in range(len(n)):
        total -= n[g] * np.log(w[g])
        for a in range(p):
            for b in range(p):
                M[a, b] += w[g] * XX[g, a, b]
            M[a, p] += w[g] * Uy[g, a]
        M[p, p] += w[g] * Uy[g, p]
    return total


@_kernel
def _eliminate(i, layout, w, D, Ey, J, F, M):
    """J = (I + N D)⁻¹ and F = J E of a level; takes E'D F from M, and gives log det(I + N D)."""
    first, p = layout[0], F.shape[1] - 1
    f, c = first[i], first[i + 1] - first[i]
    A = J[f : f + c, :c]
    E = np.zeros((c, p + 1))
    _level_sum(i, layout, w, A)
    _, _, unit, group, row, place, _, _, EX = layout
    for u in range(unit[i], unit[i + 1]):
        for a in range(row[u], row[u + 1]):
            for s in range(p):
                E[place[a], s] += w[group[u]] * EX[a, s]
            E[place[a], p] += w[group[u]] * Ey[a]
    for a in range(c):
        for b in range(c):
            A[a, b] *= D[f + b]
        A[a, a] += 1.0
    total = _invert(A, c)
    for a in range(c):
        x = F[f + a]
        x[:] = 0.0
        for b in range(c):
            for s in range(p + 1):
                x[s] += A[a, b] * E[b, s]
        for s in range(p + 1):
            y = D[f + a] * E[a, s]
            for t in range(s, p + 1):
                M[s, t] -= y * x[t]
    return total


@_kernel
def _level_sum(i, layout, w, A):
    """A = N_i = Σ_g w_g N_ig."""
    _, _, unit, group, row, place, N, NN, _ = layout
    A[:] = 0.0
    for u in range(unit[i], unit[i + 1]):
        size, at = row[u + 1] - row[u], NN[u]
        for a in range(size):
            for b in range(size):
                A[place[row[u] + a], place[row[u] + b]] += w[group[u]] * N[at + a * size + b]


@_kernel
def _invert(A, c):
    """Invert A = I + N D in place and give log det; similar to a positive definite matrix, it needs no pivoting."""
    total = 0.0
    for k in range(c):
        pivot = A[k, k]
        total += np.log(pivot)
        A[k, k] = 1.0
        for b in range(c):
            A[k, b] /= pivot
        for a in range(c):
            if a != k:
                factor = A[a, k]
                A[a, k] = 0.0
                for b in range(c):
                    A[a, b] -= factor * A[k, b]
    return total


@_kernel
def _whiten(M, R, eta, p):
    """R = L⁻ᵀ of L L' = M on the fixed columns, whose upper triangle is given, and η = R R'M_p; log det M, or -inf."""
    total = 0.0
    for a in range(p):
        for b in range(a + 1):
            x = M[b, a]
            for k in range(b):
                x -= M[a, k] * M[b, k]
            if a > b:
                M[a, b] = x / M[b, b]
            elif x > 0:
                M[a, a] = np.sqrt(x)
                total += np.log(x)
            else:
                return -np.inf
    R[:] = 0.0
    for j in range(p):
        for a in range(j, p):
            x = 1.0 if a == j else 0.0
            for k in range(j, a):
                x -= M[a, k] * R[j, k]
            R[j, a] = x / M[a, a]
    eta[:] = 0.0
    for k in range(p):
        x = 0.0
        for s in range(p):
            x += R[s, k] * M[s, p]
        for s in range(p):
            eta[s] += R[s, k] * x
    return total


@_kernel
def _turn(x, R, eta, p):
    """The row x of [Q, y] as one of [Q R, y - Q η]."""
    for s in range(p):
        x[p] -= x[s] * eta[s]
    for t in range(p - 1, -1, -1):
        y = 0.0
        for s in range(t + 1):
            y += x[s] * R[s, t]
        x[t] = y


@_kernel
def _differentiate(i, layout, w, D, Ey, J, F, R, eta, trace, spread, sums, btrace):
    """Add what a level has to tell of the derivatives."""
    first, component, unit, group, row, place, N, NN, EX = layout
    f, c, p = first[i], first[i + 1] - first[i], F.shape[1] - 1
    Ji, A, B, T = J[f : f + c, :c], np.empty((c, c)), np.empty((c, c)), np.zeros((c, c))
    _level_sum(i, layout, w, A)
    for a in range(c):
        for b in range(c):
            B[a, b] = D[f + a] * Ji[a, b]
            for k in range(c):
                T[a, k] += Ji[a, b] * A[b, k]
    _of_components(component[f : f + c], T, F[f : f + c], trace, spread, sums)
    H = np.empty((row[unit[i + 1]] - row[unit[i]], p + 1))
    E, start = np.empty_like(H), row[unit[i]]
    for u in range(unit[i], unit[i + 1]):
        size, to = row[u + 1] - row[u], row[u] - start
        for a in range(size):
            E[to + a, :p], E[to + a, p] = EX[row[u] + a], Ey[row[u] + a]
            _turn(E[to + a], R, eta, p)
            H[to + a] = E[to + a]
            for b in range(size):
                d, x = N[NN[u] + a * size + b] * D[f + place[row[u] + b]], F[f + place[row[u] + b]]
                for s in range(p + 1):
                    H[to + a, s] -= d * x[s]
                btrace[group[u]] += B[place[row[u] + a], place[row[u] + b]] * N[NN[u] + b * size + a]
    K = len(spread) - len(w)
    for u in range(unit[i], unit[i + 1]):
        g, cols, to = group[u], place[row[u] : row[u + 1]], row[u] - start
        Nu = N[NN[u] : NN[u + 1]]
        _of_unit(cols, w[g] ** 2, D[f : f + c], E[to:], H[to:], F[f : f + c], spread[K + g])
        _with_components(component[f : f + c], K + g, cols, w[g] ** 2, Nu, Ji, H[to:], F[f : f + c], sums)
        for u2 in range(unit[i], u + 1):
            h, others, from_ = group[u2], place[row[u2] : row[u2 + 1]], row[u2] - start
            found = _between(cols, others, Nu, N[NN[u2] : NN[u2 + 1]], B, H[to:], H[from_:])
            both = w[g] ** 2 * w[h] ** 2
            for k in range(3):
                sums[k, K + g, K + h] += both * found[k]


@_kernel
def _of_components(component, T, F, trace, spread, sums):
    """Add the parts of pairs of components, T = Z_i'V_1⁻¹Z_i."""
    c, p = len(F), F.shape[1] - 1
    for a in range(c):
        k, x = component[a], F[a]
        trace[k] += T[a, a]
        for b in range(c):
            l, z, y = component[b], F[b], 0.0
            for s in range(p):
                y += x[s] * z[s]
            sums[0, k, l] += T[a, b] * T[b, a]
            sums[1, k, l] += T[a, b] * y
            sums[2, k, l] += T[a, b] * x[p] * z[p]
        own = spread[k]
        for s in range(p + 1):
            for t in range(s, p + 1):
                own[s, t] += x[s] * x[t]


@_kernel
def _of_unit(cols, weight, D, E, H, F, own):
    """Take E'D F + F'D H from what a group's cells spread; it is symmetric."""
    p = F.shape[1] - 1
    for a in range(len(cols)):
        d, x, e, h = weight * D[cols[a]], F[cols[a]], E[a], H[a]
        for s in range(p + 1):
            y, z = d * e[s], d * x[s]
            for t in range(s, p + 1):
                own[s, t] -= y * x[t] + z * h[t]


@_kernel
def _with_components(component, j, cols, weight, N, J, H, F, sums):
    """Add the parts of pairs of a group's residual, parameter j, and a component."""
    c, p, size = len(F), F.shape[1] - 1, len(cols)
    for a in range(c):
        k, x, t, y, z = component[a], F[a], 0.0, 0.0, 0.0
        for b in range(size):
            left, h = J[a, cols[b]], H[b]
            for s in range(p):
                y += left * h[s] * x[s]
            z += left * h[p] * x[p]
            for l in range(size):
                t += left * N[b * size + l] * J[a, cols[l]]
        sums[0, j, k] += weight * t
        sums[1, j, k] += weight * y
        sums[2, j, k] += weight * z


@_kernel
def _between(cols, others, N, N2, B, H, H2):
    """tr B_hg N_g B_gh N_h of two units of a level, and of -H_g'B_gh H_h the trace on the fixed columns and the part on y."""
    size, more, p = len(cols), len(others), H.shape[1] - 1
    t, y, z = 0.0, 0.0, 0.0
    for a in range(size):
        for b in range(more):
            both, x, h = B[cols[a], others[b]], H[a], H2[b]
            for s in range(p):
                y -= both * x[s] * h[s]
            z -= both * x[p] * h[p]
            left = 0.0
            for k in range(size):
                for l in range(more):
                    left += N[a * size + k] * B[cols[k], others[l]] * N2[l * more + b]
            t += both * left
    return t, y, z


@_kernel
def _finish(w, n, XX, Uy, R, eta, btrace, sums, trace, spread):
    """Add what all cells of a group have to tell at once, and fill lower triangles."""
    P, p = len(spread), len(R)
    for j in range(P):
        for s in range(p + 1):
            for t in range(s):
                spread[j, s, t] = spread[j, t, s]
    left, right = np.empty((p + 1, p + 1)), np.empty((p + 1, p + 1))
    for g in range(len(w)):
        j = P - len(w) + g
        for a in range(p):
            left[a, :p], left[a, p] = XX[g, a], Uy[g, a]
        left[p] = Uy[g]
        for a in range(p + 1):
            _turn(left[a], R, eta, p)
        for a in range(p + 1):
            right[a] = left[:, a]
            _turn(right[a], R, eta, p)
        spread[j] += w[g] ** 2 * right
        trace[j] = w[g] * n[g] - w[g] ** 2 * btrace[g]
        sums[0, j, j] += w[g] ** 2 * n[g] - 2 * w[g] ** 3 * btrace[g]
        for s in range(p):
            sums[1, j, j] += w[g] * spread[j, s, s]
        sums[2, j, j] += w[g] * spread[j, p, p]


@_kernel
def _assemble(sums, spread, reml, trace, norm, squares, quad):
    """From V_1⁻¹ to P: traces, norms, and y's forms."""
    P, p = len(spread), spread.shape[1] - 1
    for j in range(P):
        own = spread[j]
        squares[j] = own[p, p]
        for s in range(p):
            trace[j] -= own[s, s] if reml else 0.0
        for l in range(j + 1):
            t, y, z, other, cross = sums[0, j, l], sums[1, j, l], sums[2, j, l], spread[l], 0.0
            for s in range(p):
                z -= own[p, s] * other[p, s]
                for k in range(p):
                    cross += own[s, k] * other[s, k]
            norm[j, l] = norm[l, j] = t - 2 * y + cross if reml else t
            quad[j, l] = quad[l, j] = z
