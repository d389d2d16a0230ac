"""The restricted likelihood of genes and its derivatives, level by level; formulas and names as in `covariance`."""

from __future__ import annotations

import numba
import numpy as np

_kernel = numba.njit(nogil=True, cache=True, error_model="numpy")


@_kernel
def points(first, unit, group, row, place, N, NN, E, component, n, XX, gamma, Ey, Uy, reml, out):
    """Fill `out` for every gene.

    Level i has the columns first[i] to first[i + 1], of which `component` tells the component, and the units unit[i] to
    unit[i + 1]: unit u is of the cells of a group, with rows row[u] to row[u + 1] of `place` (its columns, counted from the
    level's first), E (Z'Q) and Ey (Z'y, genes × rows), and N (Z'Z, from NN[u] on). XX is Q'Q of each group, Uy its Q'y and y'y
    (genes × groups × (p + 1)), n its cells. y has the fixed columns projected out without weights.
    """
    ok, logdet, Q, trace, norm, squares, quad, eta, v, root, spread = out
    K, G, p = gamma.shape[1] - len(n) + 1, len(n), XX.shape[1]
    P, levels, q = K + G, len(first) - 1, len(component)
    wide = np.max(first[1:] - first[:-1])
    starts = np.zeros(levels + 1, np.int64)
    for i in range(levels):
        starts[i + 1] = starts[i] + (first[i + 1] - first[i]) ** 2
    J, F = np.empty(starts[-1]), np.empty((q, p + 1))
    A, T, B = np.empty((3, wide, wide))
    Ei = np.empty((wide, p + 1))
    most = np.max(row[1:] - row[:-1])
    inside = np.max(unit[1:] - unit[:-1])
    Eu, H = np.empty((most, p + 1)), np.empty((inside, most, p + 1))
    S = np.empty((wide, p + 1))
    M, R, w, btrace = np.empty((p + 1, p + 1)), np.empty((p, p)), np.empty(G), np.empty(G)
    tt, dd = np.empty((2, P, P))
    for m in range(len(gamma)):
        ok[m] = True
        for k in range(K + G - 1):
            if not (gamma[m, k] > 0 or (k < K and gamma[m, k] == 0)):
                ok[m] = False
        w[G - 1] = 1.0
        for g in range(G - 1):
            w[g] = 1 / gamma[m, K + g]
        if not ok[m]:
            continue
        total = 0.0
        M[:] = 0.0
        for g in range(G):
            total -= n[g] * np.log(w[g])
            for a in range(p):
                for b in range(p):
                    M[a, b] += w[g] * XX[g, a, b]
                M[a, p] += w[g] * Uy[m, g, a]
            M[p, p] += w[g] * Uy[m, g, p]
        # One level after the other: J = (I + N D)⁻¹, F = J E, and U'V_1⁻¹U.
        for i in range(levels):
            c = first[i + 1] - first[i]
            A[:c, :c] = 0.0
            Ei[:c] = 0.0
            for u in range(unit[i], unit[i + 1]):
                _add_unit(u, w[group[u]], row, place, N, NN, E, Ey[m], A, Ei)
            for a in range(c):
                for b in range(c):
                    A[a, b] *= gamma[m, component[first[i] + b]]
                A[a, a] += 1.0
            total += _invert(A, c)
            for a in range(c):
                for b in range(c):
                    J[starts[i] + a * c + b] = A[a, b]
                for s in range(p + 1):
                    x = 0.0
                    for b in range(c):
                        x += A[a, b] * Ei[b, s]
                    F[first[i] + a, s] = x
            for a in range(c):
                d = gamma[m, component[first[i] + a]]
                for s in range(p + 1):
                    for t in range(s, p + 1):
                        M[s, t] -= d * Ei[a, s] * F[first[i] + a, t]
        # C = R R' on the fixed columns; η are their coefficients, and U becomes [Q R, y - Q η].
        whole = _whiten(M, R, eta[m], p)
        Q[m] = M[p, p]
        for s in range(p):
            Q[m] -= M[s, p] * eta[m, s]
        if not (whole > -np.inf and Q[m] > 0 and np.isfinite(total)):
            ok[m] = False
            continue
        logdet[m] = total + whole if reml else total
        root[m] = R
        for a in range(q):
            _turn(F[a], R, eta[m], p)
            v[m, a] = F[a, p]
        tt[:] = 0.0
        dd[:] = 0.0
        btrace[:] = 0.0
        trace[m] = 0.0
        quad[m] = 0.0
        spread[m] = 0.0
        for i in range(levels):
            c, f = first[i + 1] - first[i], first[i]
            A[:c, :c] = 0.0
            for u in range(unit[i], unit[i + 1]):
                size = row[u + 1] - row[u]
                for a in range(size):
                    for b in range(size):
                        A[place[row[u] + a], place[row[u] + b]] += w[group[u]] * N[NN[u] + a * size + b]
            for a in range(c):
                for b in range(c):
                    x = 0.0
                    for k in range(c):
                        x += J[starts[i] + a * c + k] * A[k, b]
                    T[a, b] = x
                    B[a, b] = gamma[m, component[f + a]] * J[starts[i] + a * c + b]
            for a in range(c):
                k = component[f + a]
                for b in range(c):
                    l = component[f + b]
                    x = 0.0
                    for s in range(p):
                        x += F[f + a, s] * F[f + b, s]
                    tt[k, l] += T[a, b] * T[b, a]
                    dd[k, l] += T[a, b] * x
                    quad[m, k, l] += T[a, b] * F[f + a, p] * F[f + b, p]
                trace[m, k] += T[a, a]
                for s in range(p + 1):
                    for t in range(p + 1):
                        spread[m, k, s, t] += F[f + a, s] * F[f + a, t]
            for u in range(unit[i], unit[i + 1]):
                j, g, size = u - unit[i], group[u], row[u + 1] - row[u]
                cols = place[row[u] : row[u + 1]]
                for a in range(size):
                    Eu[a, :p], Eu[a, p] = E[row[u] + a], Ey[m, row[u] + a]
                    _turn(Eu[a], R, eta[m], p)
                    for s in range(p + 1):
                        x = Eu[a, s]
                        for b in range(size):
                            d = gamma[m, component[f + cols[b]]]
                            x -= N[NN[u] + a * size + b] * d * F[f + cols[b], s]
                        H[j, a, s] = x
                    for b in range(size):
                        btrace[g] += B[cols[a], cols[b]] * N[NN[u] + b * size + a]
                for a in range(size):
                    d, b = w[g] ** 2 * gamma[m, component[f + cols[a]]], f + cols[a]
                    for s in range(p + 1):
                        for t in range(p + 1):
                            spread[m, K + g, s, t] -= d * (Eu[a, s] * F[b, t] + F[b, s] * H[j, a, t])
                for a in range(c):
                    k = component[f + a]
                    for s in range(p + 1):
                        S[a, s] = 0.0
                        for b in range(size):
                            S[a, s] += J[starts[i] + a * c + cols[b]] * H[j, b, s]
                    x = 0.0
                    for s in range(p):
                        x += S[a, s] * F[f + a, s]
                    dd[k, K + g] += w[g] ** 2 * x
                    quad[m, k, K + g] += w[g] ** 2 * S[a, p] * F[f + a, p]
                    x = 0.0
                    for b in range(size):
                        for b2 in range(size):
                            Jb, Jb2 = J[starts[i] + a * c + cols[b]], J[starts[i] + a * c + cols[b2]]
                            x += Jb * N[NN[u] + b * size + b2] * Jb2
                    tt[k, K + g] += w[g] ** 2 * x
            for u in range(unit[i], unit[i + 1]):
                for u2 in range(unit[i], u + 1):
                    x, y, z = _between(u, u2, unit[i], row, place, N, NN, B, H, p)
                    g, h = group[u], group[u2]
                    both = w[g] ** 2 * w[h] ** 2
                    tt[K + g, K + h] += both * x
                    dd[K + g, K + h] -= both * y
                    quad[m, K + g, K + h] -= both * z
                    if g != h:
                        tt[K + h, K + g] += both * x
                        dd[K + h, K + g] -= both * y
                        quad[m, K + h, K + g] -= both * z
        for g in range(G):
            j = K + g
            _add_whole(spread[m, j], w[g] ** 2, XX[g], Uy[m, g], R, eta[m], p)
            trace[m, j] = w[g] * n[g] - w[g] ** 2 * btrace[g]
            tt[j, j] += w[g] ** 2 * n[g] - 2 * w[g] ** 3 * btrace[g]
            for s in range(p):
                dd[j, j] += w[g] * spread[m, j, s, s]
            quad[m, j, j] += w[g] * spread[m, j, p, p]
            for k in range(K):
                tt[j, k], dd[j, k], quad[m, j, k] = tt[k, j], dd[k, j], quad[m, k, j]
        for j in range(P):
            squares[m, j] = spread[m, j, p, p]
            for s in range(p):
                if reml:
                    trace[m, j] -= spread[m, j, s, s]
            for l in range(P):
                x = 0.0
                for s in range(p):
                    quad[m, j, l] -= spread[m, j, p, s] * spread[m, l, p, s]
                    for t in range(p):
                        x += spread[m, j, s, t] * spread[m, l, s, t]
                norm[m, j, l] = tt[j, l] - 2 * dd[j, l] + x if reml else tt[j, l]


@_kernel
def _add_unit(u, w, row, place, N, NN, E, Ey, A, Ei):
    """Add a unit's Z'Z and Z'[Q, y] to those of its level."""
    size, p = row[u + 1] - row[u], E.shape[1]
    for a in range(size):
        to = place[row[u] + a]
        for b in range(size):
            A[to, place[row[u] + b]] += w * N[NN[u] + a * size + b]
        for s in range(p):
            Ei[to, s] += w * E[row[u] + a, s]
        Ei[to, p] += w * Ey[row[u] + a]


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
    """R = L⁻ᵀ of L L' = M on the first p rows, of which the upper part is given, η = R R' M_p; log det, or -inf."""
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
    for j in range(p):  # columns of L⁻¹ are rows of R
        for a in range(j, p):
            x = 1.0 if a == j else 0.0
            for k in range(j, a):
                x -= M[a, k] * R[j, k]
            R[j, a] = x / M[a, a]
    for s in range(p):
        eta[s] = 0.0
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
def _between(u, u2, start, row, place, N, NN, B, H, p):
    """tr B_hg N_g B_gh N_h of two units of a level, and H_g'B_gh H_h: its trace on the fixed columns, and that of y."""
    size, size2 = row[u + 1] - row[u], row[u2 + 1] - row[u2]
    x, y, z = 0.0, 0.0, 0.0
    for a in range(size):
        for b in range(size2):
            both = B[place[row[u] + a], place[row[u2] + b]]
            for s in range(p):
                y += H[u - start, a, s] * both * H[u2 - start, b, s]
            z += H[u - start, a, p] * both * H[u2 - start, b, p]
            left = 0.0
            for k in range(size):
                for l in range(size2):
                    left += N[NN[u] + a * size + k] * B[place[row[u] + k], place[row[u2] + l]] * N[NN[u2] + l * size2 + b]
            x += both * left
    return x, y, z


@_kernel
def _add_whole(out, weight, XX, Uy, R, eta, p):
    """Add weight times U'U of a group's cells, U = [Q R, y - Q η]."""
    left = np.empty((p + 1, p + 1))
    for a in range(p):
        left[a, :p], left[a, p] = XX[a], Uy[a]
    left[p] = Uy
    for a in range(p + 1):
        _turn(left[a], R, eta, p)
    left = left.T.copy()
    for a in range(p + 1):
        _turn(left[a], R, eta, p)
    out += weight * left
