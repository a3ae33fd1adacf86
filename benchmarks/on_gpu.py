"""What this library does on a GPU: its tests there, throughput and memory, time to quality.

    make gpu                                     on a machine with CUDA: at most six minutes
    python benchmarks/on_gpu.py --part throughput   one part alone
    python benchmarks/on_gpu.py --device cpu --quick   in tiny sizes, to try its logic

Parts run one after another, each in a process of its own with a limit of time; what one of them
has measured stays where another fails. tests: those marked `gpu`. throughput: our networks beside
diffusers' of equal parameters and arithmetic, training and inference in bf16, and the memory of
each. quality: the demo's recipe, trained for some seconds, sampled and measured. compiled: our
networks with compiled blocks. Each leaves results/gpu/NAME.json; summary.json states how all went.
Without CUDA the script states that and exits 0; it exits 1 where a part failed or ran out of time.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # not installed: as it is

import torch
from side_by_side import RESULTS, arguments, table, write

ROOT = Path(__file__).resolve().parents[1]
PARTS = {"tests": 110, "throughput": 85, "quality": 105, "compiled": 60}  # seconds at most
QUICK = 100  # of every part in tiny sizes, on a busy machine
LIBRARIES = ("unnoise", "diffusers", "accelerate", "triton")


def device_facts(device: str) -> dict[str, Any]:
    """Return what identifies the device and the libraries on it."""
    facts: dict[str, Any] = {"device": device, "torch": torch.__version__}
    if device == "cuda":
        found = torch.cuda.get_device_properties(0)
        facts |= {
            "device": found.name,
            "GiB": round(found.total_memory / 2**30, 1),
            "multiprocessors": found.multi_processor_count,
            "capability": f"{found.major}.{found.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    facts["python"] = platform.python_version()
    for name in LIBRARIES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = None
    return facts


def tests(asked: argparse.Namespace) -> dict[str, Any]:
    """Run the tests marked `gpu`; all of them must pass where there is CUDA."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
        subprocess.run([*command, f"--junitxml={report}", "tests/gpu"], cwd=ROOT, check=False)
        if not report.is_file():
            raise RuntimeError("pytest wrote no report: is it installed (pip install -e '.[dev]')?")
        return counted(report, asked.device == "cuda")


def counted(report: Path, real: bool) -> dict[str, Any]:
    """Return the numbers of a JUnit report; `failed` explains what is wrong with them."""
    cases = list(xml.parse(report).getroot().iter("testcase"))
    bad = [case for case in cases for kind in ("failure", "error") if case.find(kind) is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    reasons = {str(case.find("skipped").get("message")) for case in skipped}  # type: ignore[union-attr]
    names = [f"{case.get('classname')}::{case.get('name')}" for case in bad]
    failed = f"{len(bad)} of {len(cases)} tests failed: {', '.join(names)}" if bad else None
    if real and not bad and len(skipped) == len(cases):
        failed = f"no test ran: {'; '.join(sorted(reasons)) or 'none was found'}"
    return {
        "tests": len(cases),
        "passed": len(cases) - len(bad) - len(skipped),
        "skipped": len(skipped),
        "why skipped": sorted(reasons),
        "failures": names,
        "failed": failed,
    }


def throughput(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure our networks beside diffusers'."""
    from speed.on_device import throughput as measure

    return measure(torch.device(asked.device), asked.quick, 0.7 * PARTS["throughput"])


def compiled(asked: argparse.Namespace) -> dict[str, Any]:
    """Measure our networks with compiled blocks."""
    from speed.on_device import compiled as measure

    return measure(torch.device(asked.device), asked.quick)


def quality(asked: argparse.Namespace) -> dict[str, Any]:
    """Train the demo's recipe and measure its samples."""
    from quality.on_device import quality as measure

    return measure(asked.device, asked.quick)


MEASURES = {"tests": tests, "throughput": throughput, "quality": quality, "compiled": compiled}


def work(asked: argparse.Namespace) -> None:
    """Run one part in this process and write its JSON; exit 1 where it states a failure."""
    began = time.perf_counter()
    found = MEASURES[asked.part](asked)
    found = {"quick": asked.quick, "gpu": device_facts(asked.device), **found}
    write(asked.part, found | {"seconds": round(time.perf_counter() - began, 1)}, asked.out)
    if found.get("failed"):
        sys.exit(str(found["failed"]))


def run(part: str, asked: argparse.Namespace, limit: float) -> dict[str, Any]:
    """Run one part in a process of its own, which is ended at its limit; return how it went."""
    (asked.out / f"{part}.json").unlink(missing_ok=True)  # that of an earlier run
    command = [sys.executable, "-W", "ignore", __file__, "--worker", "--part", part]
    command += ["--device", asked.device, "--out", str(asked.out)] + ["--quick"] * asked.quick
    env = os.environ | {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # deterministic products
    before = [env["PYTHONPATH"]] if env.get("PYTHONPATH") else []
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), *before])
    if asked.device == "cpu":
        env |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    print(f"\n== {part} (at most {limit:g} s)", flush=True)
    began, why = time.perf_counter(), None
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        errors = process.communicate(timeout=limit)[1]
        if process.returncode:
            lines = errors.strip().splitlines() or [f"exit status {process.returncode}"]
            print("\n".join(lines[-30:]), flush=True)
            why = lines[-1]
    except subprocess.TimeoutExpired:
        why = f"ended at its limit of {limit:g} s"
    finally:
        if process.poll() is None:  # with its own processes: pytest, compilers
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    seconds = round(time.perf_counter() - began, 1)
    return {"part": part, "went": "failed" if why else "ok", "seconds": seconds, "why": why}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--part", choices=PARTS, help="this part alone")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)


def main() -> None:
    asked = arguments(__doc__, options)
    if asked.out == RESULTS:
        asked.out = RESULTS / "gpu"
    if asked.worker:
        return work(asked)
    if asked.device == "cpu" and not asked.quick:
        sys.exit("the whole sizes are for a GPU; give --device cpu --quick")
    if asked.device == "cuda" and not torch.cuda.is_available():
        print(
            f"no CUDA device here (torch {torch.__version__}): nothing was run. The same script in "
            "tiny sizes on a CPU: make gpu OPTIONS='--device cpu --quick'"
        )
        return None
    asked.out.mkdir(parents=True, exist_ok=True)
    facts = device_facts(asked.device)
    print(table([{"": name, " ": value} for name, value in facts.items()]))
    parts = [asked.part] if asked.part else list(PARTS)
    went = [run(part, asked, QUICK if asked.quick else PARTS[part]) for part in parts]
    print("\n" + table(went))
    if not asked.part:
        write("summary", {"quick": asked.quick, "gpu": facts, "parts": went}, asked.out)
    if any(row["why"] for row in went):
        sys.exit(1)
    return None


if __name__ == "__main__":
    main()
