"""Plant bugs that have survived elsewhere, one at a time, and see that the tests catch each.

    python tools/planted_bugs.py            all of them (about five minutes on one core)
    python tools/planted_bugs.py chain      those whose name contains "chain"
    python tools/planted_bugs.py --list

The repository's src, tests and benchmarks are copied to a temporary folder; every bug is a textual
replacement in that copy, undone before the next. A bug counts as caught when a test fails with it
and passes without it. Exits with 1 where a bug survives, where its text is no longer in the
sources exactly once (mend the pattern), or where the copy is not what the tests import.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from planted_late import LATE_BUGS
from planted_sampling import STREAMED
from planted_training import TRAINING

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Bug:
    """Replacements (file under src/unnoise, correct text, planted text), and tests to try."""

    name: str
    changes: tuple[tuple[str, str, str], ...]
    tests: tuple[str, ...]


def bug(name: str, file: str, right: str, wrong: str, *tests: str) -> Bug:
    return Bug(name, ((file, right, wrong),), tests)


ORDER, PAPERS = "tests/solvers/test_order.py", "tests/solvers/test_papers.py"
STOCHASTIC, MOMENTS = "tests/solvers/test_stochastic.py", "tests/solvers/test_moments.py"
WEIGHTS, SOLVER = "tests/solvers/test_weights.py", "tests/solvers/test_solver.py"
SAMPLING = "tests/solvers/test_sampling.py"
MULTISTEP, PLAN = "solvers/multistep.py", "solvers/multistep_plan.py"
CHOSEN = "tests/recipes/test_choose_network.py"

BUGS = [
    Bug(
        "posterior: coefficients of x0 and x_t swapped",
        (
            ("paths/chains.py", "on_x0=math.sqrt(self", "on_x=math.sqrt(self"),
            ("paths/chains.py", "on_x=math.sqrt(alpha)", "on_x0=math.sqrt(alpha)"),
        ),
        ("tests/paths/test_chains.py", STOCHASTIC),
    ),
    bug(
        "multistep: σ_t where σ_s belongs", PLAN,
        "alpha[k + 1] * sigma[k]\n", "alpha[k + 1] * sigma[k + 1]\n", ORDER,
    ),
    Bug(
        "multistep: curvature term of the exact third order halved",
        (
            ("solvers/weights.py", '"exact": lambda *_: None', '"exact": _half_curvature'),
            ("solvers/weights.py", 'if rule != "exact":', "if len(kept) == 3:"),
        ),
        (WEIGHTS,),
    ),
    bug(
        "multistep: Lagrange denominators of the wrong sign", "solvers/weights.py",
        "/ (own - other)", "/ (other - own)", WEIGHTS,
    ),
    bug(
        "multistep: ŵ not normalised", "solvers/weights.py",
        "return lam, weights / weights.sum()", "return lam, weights", WEIGHTS,
    ),
    bug(
        "multistep: corrector redoes the step from the state it corrects", MULTISTEP,
        "combine(base, step.correct, points, mine)", "combine(x, step.correct, points)", PAPERS,
    ),
    bug(
        "score of the wrong sign", "fields/lenses.py",
        "(torch.zeros_like(t), -1 / p.sigma(t))", "(torch.zeros_like(t), 1 / p.sigma(t))",
        "tests/fields/test_exact_fields.py", "tests/fields/test_lenses.py",
    ),
    bug(
        "chain: ᾱ of step n − 1 for that of step n", "paths/chains.py",
        "self._alpha_bar[self._step(n, 0)]", "self._alpha_bar[max(self._step(n, 0) - 1, 0)]",
        "tests/paths/test_chains.py",
    ),
    bug(
        "chain: its path reads t·(T − 1) for t·T", "paths/chains.py",
        "double() * self.chain.steps", "double() * (self.chain.steps - 1)",
        "tests/paths/test_chains.py", STOCHASTIC,
    ),
    bug(
        "grid: t − T//n for the previous time", "paths/grids.py",
        "round(length * (steps - i) / steps)", "length - i * (length // steps)",
        "tests/paths/test_grids.py",
    ),
    bug(
        "velocity returned under the name eps", "fields/field.py",
        'return self.through("eps")', 'return self.through("velocity")',
        "tests/fields/test_lenses.py",
    ),
    bug(
        "v of the wrong sign", "fields/lenses.py",
        "(-p.sigma(t), p.alpha(t))", "(p.sigma(t), -p.alpha(t))", "tests/fields/test_lenses.py",
    ),
    bug(
        "DDIM: variance of η's noise", "solvers/terms.py",
        "math.sqrt(-math.expm1(-2 * h))", "math.sqrt(-math.expm1(-h))", STOCHASTIC,
    ),
    bug(
        "stochastic multistep: weights of the deterministic one", PLAN,
        "if 0 < aim < math.inf and math.isfinite(h):", "if False:", STOCHASTIC,
    ),
    bug(
        "DDPM: the larger variance on the last step too", PLAN,
        'if solver.variance == "transition" and sigma[k + 1] > 0:',
        'if solver.variance == "transition":', STOCHASTIC,
    ),
    bug(
        "diffusion: a factor 2 lost", "paths/path.py",
        "return (2 * sigma * (", "return (sigma * (", "tests/paths/test_schedules.py",
    ),
    bug(
        "drift: a factor ½ lost", "paths/schedules.py",
        "return -0.5 * self.beta(t)\n", "return -self.beta(t)\n", "tests/paths/test_schedules.py",
    ),
    bug(
        "Euler–Maruyama: noise by Δ for √Δ", "solvers/euler_maruyama.py",
        "solver.eta * g * math.sqrt(start - end)", "solver.eta * g * (start - end)", STOCHASTIC,
    ),
    bug(
        "Runge–Kutta: stages scaled as the step's start", "solvers/runge_kutta.py",
        "(size / sizes[k], [size", "(1.0, [size", PAPERS,
    ),
    bug(
        "guidance: scale w for 1 + w", "guidance/classifier_free.py",
        "mix(null, given, self.scale)", "mix(null, given, 1 + self.scale)",
        "tests/guidance/test_classifier_free.py",
    ),
    bug(
        "along: log-SNR matched, x not rescaled", "fields/field.py",
        "self.field(expand(scale, x_t) * x_t,", "self.field(x_t,", "tests/fields/test_along.py",
    ),
    bug(
        "shift: of the half log-SNR by the whole logarithm", "paths/path.py",
        "return self.base.log_snr(t) + 0.5 * math.log", "return self.base.log_snr(t) + math.log",
        "tests/paths/test_schedules.py",
    ),
    bug(
        "min-SNR weight in the wrong lens", "objectives/weights.py",
        '"min_snr": ("x0", ', '"min_snr": ("eps", ', "tests/objectives/test_weights.py",
    ),
    bug(
        "streams keyed by the row of the batch", "randomness.py",
        "for key[1] in self.indices:", "for key[1] in range(len(self.indices)):",
        "tests/test_randomness.py", STOCHASTIC,
    ),
    bug(
        "no last denoising step where a path ends in noise", "solvers/sampling.py",
        "and end == 0 and", "and end != 0 and", SAMPLING,
    ),
    bug(
        "chosen network: cells by the longest side", "recipes/choose.py",
        "math.log2(math.prod(size)) / len(size)", "math.log2(max(size))", CHOSEN,
    ),
    bug(
        "chosen network: a short side is cut away", "recipes/choose.py",
        "4 * min(size) / side", "4 * max(size) / side", CHOSEN,
    ),
    bug(
        "chosen network: a short side is halved away", "recipes/choose.py",
        " - 1, *halved])", " - 1])", CHOSEN,
    ),
    *(bug(*row) for row in TRAINING),
    *(bug(*row) for row in LATE_BUGS),
    *(bug(*row) for row in STREAMED),
]  # fmt: skip


def run(command: list[str], copy: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",  # stale bytecode would hide a change of equal length
        "OMP_NUM_THREADS": "1",
    }
    return subprocess.run(
        [sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True
    )


def failing(tests: tuple[str, ...], copy: Path, at_once: bool = False) -> list[str]:
    """The tests that fail in the copy: the first of each file, or of all `at_once`."""
    found = []
    for files in [list(tests)] if at_once else [[file] for file in tests]:
        options = ["-x", "-q", "--tb=no", "-rf", "-p", "no:cacheprovider"]
        out = run(["-m", "pytest", *options, *files], copy)
        names = re.findall(r"^FAILED (\S+::.*?)(?: - .*)?$", out.stdout, re.MULTILINE)
        if out.returncode == 1 and names:
            found.append(names[0])
        elif out.returncode != 0:
            raise SystemExit(f"pytest did not run {files}:\n{out.stdout}{out.stderr}")
    return found


def plant(planted: Bug, copy: Path) -> tuple[list[str], str]:
    """Try one bug; give the tests that caught it, or what is wrong."""
    before: dict[Path, str] = {}
    try:
        for file, right, wrong in planted.changes:
            path = copy / "src" / "unnoise" / file
            text = path.read_text(encoding="utf-8")
            before.setdefault(path, text)
            if text.count(right) != 1:
                return [], f"no place for it: {file} has {right!r} {text.count(right)} times"
            path.write_text(text.replace(right, wrong), encoding="utf-8")
        caught = failing(planted.tests, copy)
    finally:
        for path, text in before.items():
            path.write_text(text, encoding="utf-8")
    return caught, "" if caught else f"survived {', '.join(planted.tests)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("names", nargs="*", help="plant only bugs whose name contains one of these")
    parser.add_argument("--list", action="store_true", help="list the bugs and stop")
    options = parser.parse_args()
    chosen = [b for b in BUGS if not options.names or any(n in b.name for n in options.names)]
    if options.list or not chosen:
        print("\n".join(b.name for b in BUGS))
        return 0 if options.list else 2
    bad = 0
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        copy = Path(folder).resolve()
        skip = shutil.ignore_patterns("__pycache__", "*.pyc")
        for part in ("src", "tests", "tools", "benchmarks"):
            shutil.copytree(ROOT / part, copy / part, ignore=skip)
        shutil.copy(ROOT / "pyproject.toml", copy)
        where = run(["-c", "import unnoise; print(unnoise.__file__)"], copy).stdout.strip()
        if not where or copy not in Path(where).resolve().parents:
            print(f"the tests would import {where or 'nothing'}, not the copy in {copy}")
            return 1
        catchers: list[str] = []
        for planted in chosen:
            begun = time.monotonic()
            caught, complaint = plant(planted, copy)
            catchers += caught
            bad += not caught
            seconds = time.monotonic() - begun
            print(f"{'caught' if caught else 'MISSED':7}{planted.name}  [{seconds:.0f} s]")
            for line in caught or [complaint]:
                print(f"       {line.removeprefix('tests/')}", flush=True)
        clean = failing(tuple(dict.fromkeys(catchers)), copy, at_once=True) if catchers else []
        if clean:
            print(f"fails without any bug too, and so proves nothing: {', '.join(clean)}")
            bad += 1
    print(f"{len(chosen)} bugs planted, {'all caught' if not bad else f'{bad} complaints'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
