"""Progress bars for what the library reports."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uniavgen.inference.clip import OnProgress, Progress


@contextmanager
def progress_bar(unit: str, desc: str | None = None) -> Iterator[Callable[[int, int], None]]:
    """Yields a callback that takes the count of finished items and their total.

    Items finished before the first call do not count for the speed that is shown. The unit "B" is scaled (MB, GB).
    """
    from tqdm import tqdm

    with tqdm(unit=unit, desc=desc, unit_scale=unit == "B", smoothing=0.05, mininterval=0.3) as bar:
        is_started = False

        def on_progress(done: int, total: int) -> None:
            nonlocal is_started
            if not is_started:
                is_started = True
                bar.reset(total)
                bar.initial = bar.n = done
            bar.total = total
            bar.update(done - bar.n)

        yield on_progress


@contextmanager
def named_bars(unit: str = "") -> Iterator[Callable[[str, int, int], None]]:
    """Yields a callback that takes a name, the count of finished items and their total; a bar for each name in turn."""
    with ExitStack() as stack:
        bars: dict[str, Callable[[int, int], None]] = {}

        def on_progress(name: str, done: int, total: int) -> None:
            if name not in bars:
                stack.pop_all().close()
                bars[name] = stack.enter_context(progress_bar(unit or "it", name))
            bars[name](done, total)

        yield on_progress


@contextmanager
def phase_bars() -> "Iterator[OnProgress]":
    """Yields a callback that shows one bar after the other, each for a phase of generating a clip."""
    from tqdm import tqdm

    bars: dict[str, tqdm] = {}

    def show(progress: "Progress") -> None:
        if progress.phase not in bars:
            for bar in bars.values():
                bar.close()
            bars[progress.phase] = tqdm(total=progress.total, desc=f"{progress.phase:>12}", mininterval=0.3)
        bar = bars[progress.phase]
        bar.update(progress.step - bar.n)

    try:
        yield show
    finally:
        for bar in bars.values():
            bar.close()
