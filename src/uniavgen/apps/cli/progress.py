"""The progress bar of every command: a callback (done, total) for the library, shown by tqdm."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
