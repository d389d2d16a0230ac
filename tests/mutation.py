"""A mutation run, with the operators of cosmic-ray: `python tests/mutation.py _inference.df --sample 40`; see mutation.md.

One process imports what we need from others, and forks for each mutant. The mutant takes the module's place when it is
imported, so that no file changes, and runs the tests that are nearest to it until one fails. Time is that of the
processor, so that a busy machine kills nobody.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import importlib
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path

import numba
import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

HOME = Path(__file__).parents[1]
OTHERS = [
    "anndata",
    "dask.array",
    "formulaic",
    "h5py",
    "hypothesis",
    "pandas",
    "scipy.stats",
    "statsmodels.api",
    "zarr",
]
LMM, LMMTEST = "tests/arrays/test_lmm.py", "tests/arrays/test_lmmtest.py"
COUNTS = ["tests/inference/test_counts.py", "tests/tl/test_nbmm_de.py"]
GAUSSIAN = ["tests/gaussian/test_solver.py", "tests/gaussian/test_optima.py", "tests/gaussian/test_correlated.py", LMM]
MODERATED = [
    "tests/inference/test_moderated.py",
    "tests/inference/test_moderated_f.py",
    "tests/inference/test_across.py",
]
TESTS = {
    "_gaussian.lattice": ["tests/gaussian/test_lattice.py", "tests/gaussian/test_optima.py"],
    "_gaussian.profile": GAUSSIAN,
    "_gaussian.solver": GAUSSIAN,
    "_gaussian.estimate": [*GAUSSIAN, "tests/gaussian/grouped/test_genes.py", "tests/inference/test_df.py"],
    "_gaussian.information": ["tests/inference/test_df.py", "tests/gaussian/test_solver.py", LMM],
    "_gaussian.projection": ["tests/gaussian/test_projection.py", "tests/gaussian/test_vectors.py", LMM],
    "_gaussian.structure": [
        "tests/gaussian/test_structure.py",
        "tests/gaussian/test_correlated.py",
        "tests/gaussian/blocks",
    ],
    "_inference.df": ["tests/inference/test_df.py", LMMTEST],
    "_inference.t_tests": ["tests/inference/test_t_tests.py", "tests/inference/test_df.py", LMMTEST],
    "_inference.f_tests": ["tests/inference/test_f_tests.py", LMMTEST],
    "_inference.mixing": ["tests/inference/test_mixing.py", "tests/inference/test_moderated.py"],
    "_inference.mixture": ["tests/inference/test_mixture.py", *MODERATED],
    "_inference.moderated": MODERATED,
    "_inference.moderated_t": MODERATED,
    "_inference.moderated_f": ["tests/inference/test_moderated_f.py", *MODERATED],
    "_inference.prior": ["tests/inference/test_prior.py", *MODERATED],
    "_inference.contrasts": ["tests/inference/test_contrasts.py"],
    "_inference.likelihood_ratio": ["tests/inference/test_likelihood_ratio.py", "tests/arrays/test_lrt.py"],
    "_inference.tails": [
        "tests/inference/test_tails.py",
        "tests/inference/test_moderated_f.py",
        "tests/inference/test_mixture.py",
    ],
    "_inference.across": ["tests/inference/test_across.py"],
    "_inference.counts": COUNTS,
    "_inference.count_prior": ["tests/inference/test_count_prior.py", *COUNTS],
    "_inference.shrinkage": ["tests/inference/test_shrinkage.py"],
    "_counts.samples": ["tests/counts/test_samples.py", *COUNTS],
    "_counts.regression": ["tests/counts/test_regression.py", "tests/inference/test_counts.py"],
    "_counts.elementary": ["tests/counts/test_elementary.py"],
    "_counts.algebra": ["tests/counts/test_regression.py"],
    "_counts.kernel": ["tests/counts/test_regression.py"],
    "_design.random_terms": [
        "tests/design/test_random_terms.py",
        "tests/design/test_random.py",
        "tests/design/test_slopes.py",
    ],
    "_design.formula": ["tests/design/test_fixed.py", "tests/design/test_names.py", "tests/design/test_encoding.py"],
    "_design.formula_operators": ["tests/design/test_formula_operators.py", "tests/design/test_fixed.py"],
    "_design.questions": ["tests/design/test_questions.py", "tests/results/test_questions.py"],
    "_design.fixed": [
        "tests/design/test_fixed.py",
        "tests/design/test_names.py",
        "tests/design/test_encoding.py",
        "tests/design/test_type3.py",
    ],
    "_stats.refined": ["tests/stats/test_refined.py", "tests/stats/test_summary.py", "tests/stats/test_unite.py"],
    "_stats.checks": ["tests/bad_input/test_bad_input.py", "tests/stats/test_refined.py"],
    "_base.rank": ["tests/base/test_rank.py", "tests/design/test_fixed.py", "tests/stats/test_refined.py"],
    "_results.whole": [
        "tests/bad_input/test_bad_input.py",
        "tests/results/test_finding.py",
        "tests/results/test_result.py",
    ],
}
"""Tests of each module, the nearest first."""
PLAIN = {"_counts.elementary", "_counts.algebra", "_counts.kernel"}
"""Modules that run as plain Python, as numba takes longer to compile a mutant than that."""
LIMIT = 200
"""Seconds of the processor after which a mutant hangs."""
OPTIONS = [
    *["-x", "-q", "--tb=line", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist", "--hypothesis-seed=0"],
    "--deselect=tests/counts/test_regression.py::test_one_gene_after_another_or_all_at_once",  # where memory lies
    "--deselect=tests/inference/test_contrasts.py::test_round_trip_of_arbitrary_quoted_names",  # takes long
    "--deselect=tests/inference/test_contrasts.py::test_round_trip_of_realistic_names",
]
SAME = ("_Eq_Is", "_NotEq_IsNot", "_Is_Eq", "_IsNot_NotEq", "RemoveDecorator", "AddNot")
"""Operators that change nothing, or much the same as others: `is` for `==`, cached and compiled functions, negations."""


class Mutant(SourceFileLoader):
    """Imports a module from other source than its file's."""

    def __init__(self, name: str, path: Path, source: str):
        super().__init__(name, str(path))
        self.source = source

    def get_code(self, fullname: str):
        return compile(self.source, self.path, "exec", dont_inherit=True)

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None


def unread(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Where nothing is computed: annotations."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for annotation in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if annotation is not None:
                start, end = (
                    (annotation.lineno, annotation.col_offset),
                    (annotation.end_lineno, annotation.end_col_offset),
                )
                found.append((start, end))
    return found


def mutants(source: str, sample: int) -> Iterator[tuple[int, str, str]]:
    """Line, operator and source of mutants at so many places (0: all); at each one of the replacements, by chance."""
    places: dict[tuple, list] = {}
    skipped = unread(source)
    tree = get_ast(source)
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments() or name.endswith(SAME):
            continue
        positions = (p for node in ast_nodes(tree) for p in operator().mutation_positions(node))
        for occurrence, (start, end) in enumerate(positions):
            if not any(first <= start < last for first, last in skipped):
                places.setdefault((start, end), []).append((name, occurrence))
    chosen = random.sample(sorted(places), min(sample or len(places), len(places)))
    for place in sorted(chosen):
        name, occurrence = random.choice(places[place])
        mutated = mutate_code(source, get_operator(name)(), occurrence)
        with contextlib.suppress(SyntaxError):
            if ast.dump(ast.parse(mutated)) != ast.dump(ast.parse(source)):
                yield place[0][0], name.rpartition("/")[2], mutated


class Subject:
    """A module and its tests, the nearest file by itself, as it kills most, then the others."""

    def __init__(self, module: str, nearest: bool):
        self.module = module
        self.tests = (
            [TESTS[module][:1]] if nearest else [part for part in (TESTS[module][:1], TESTS[module][1:]) if part]
        )
        self.path = HOME / "src/flashmm_sc" / (module.replace(".", "/") + ".py")
        self.source = self.path.read_text(encoding="utf-8")
        self.log = Path(tempfile.gettempdir()) / f"mutation-{module}.log"
        numba.config.DISABLE_JIT = int(module in PLAIN)

    def fate(self, source: str) -> str:
        """What becomes of a mutant."""
        for k in range(len(self.tests)):
            self.check(k)
            if (fate := self.run(source, self.tests[k])) != "survives":
                return fate
        return "survives"

    @cache  # noqa: B019
    def check(self, k: int) -> None:
        """The tests pass without a mutant."""
        if self.run(self.source, self.tests[k]) != "survives":
            sys.exit(f"{self.tests[k]} fail without a mutant:\n{self.log.read_text()[-2000:]}")

    def run(self, source: str, tests: list[str]) -> str:
        """What some tests say."""
        child = os.fork()
        if child == 0:
            output = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 5))
            sys.meta_path.insert(0, Mutant(f"flashmm_sc.{self.module}", self.path, source))
            code = 9
            try:
                code = int(pytest.main([*OPTIONS, *tests]))
            finally:
                if sys.exc_info()[0] is not None:
                    traceback.print_exc()
                sys.stdout.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return "hangs" if os.WTERMSIG(status) in {signal.SIGXCPU, signal.SIGKILL} else "crashes"
        return "killed" if os.WEXITSTATUS(status) else "survives"


def main() -> None:
    parser = argparse.ArgumentParser(description="Do the tests of a module notice that it is wrong?")
    parser.add_argument("modules", nargs="*", default=list(TESTS))
    parser.add_argument("--sample", type=int, default=40, help="places in a module; 0 for all")
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("--nearest", action="store_true", help="run only the nearest file of tests")
    parser.add_argument("--lines", type=int, nargs="+", help="of the sample, only mutants of these lines")
    arguments = parser.parse_args()
    os.chdir(HOME)
    for name in OTHERS:
        importlib.import_module(name)
    for module in arguments.modules:
        random.seed(f"{arguments.seed} {module}")
        subject, count = Subject(module, arguments.nearest), Counter()
        for line, operator, mutated in mutants(subject.source, arguments.sample):
            if arguments.lines and line not in arguments.lines:
                continue
            fate = subject.fate(mutated)
            count[fate] += 1
            if fate in {"survives", "hangs"}:
                lines = [text.split("\n") for text in (subject.source, mutated)]
                changed = [*difflib.unified_diff(*lines, lineterm="", n=0)][3:]
                print(f"  {fate}, line {line}, {operator}\n    " + "\n    ".join(changed), flush=True)
        print(f"{module}: " + ", ".join(f"{n} {fate}" for fate, n in sorted(count.items())), time.ctime(), flush=True)


if __name__ == "__main__":
    main()
