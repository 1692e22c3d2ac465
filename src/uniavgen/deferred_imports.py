"""Binds names that libraries import but do not use for sampling when they are first used, so that start-up is short.

diffusers imports transformers, peft and TorchDynamo (and these import scipy, accelerate, sympy ...) while its modules
load, mostly for `isinstance` checks and type hints: three of the four seconds that loading the pipeline took. While a
module of diffusers runs for the first time, `from peft import X` therefore binds a placeholder of X; calling it,
reading an attribute, subclassing it or checking an instance against it imports the package and does what X does. This
is what `lazy from peft import X` is in Python 3.15 (PEP 810), for code that is not ours. [ours]

Imports inside functions are left alone, and so is a package that the program imported already.
"""

import builtins
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from types import ModuleType
from typing import Any

DEFERRED: Mapping[str, tuple[str, ...]] = {
    "diffusers": ("transformers", "peft", "scipy", "diffusers.quantizers.torchao")
}
"""Library: packages whose names its modules bind when they are used. The last one, which is not used here, imports
torchao where that is installed, in seconds and with messages on stderr."""
_ABSENT: Mapping[str, tuple[str, ...]] = {"diffusers": ("torch._dynamo",)}
"""Library: modules whose import by it fails as long as nothing else has imported them.

diffusers decorates classes with `torch._dynamo.allow_in_graph` where it can, and leaves them as they are where it
cannot. The decorator matters to who compiles a whole model of diffusers; this package compiles its own block.
"""


_LAZY_PACKAGES = (
    "diffusers.hooks",
    "diffusers.models.autoencoders",
    "diffusers.models.transformers",
    "diffusers.models.unets",
)
"""Packages that import all their modules; they run when one of their names is read."""
_NEVER_COMPILED = ("diffusers.hooks.group_offloading", "diffusers.pipelines.pipeline_utils")
"""Modules in which `torch.compiler.disable`, which imports TorchDynamo, leaves functions as they are.

It marks what moves weights, which is never combined with compiled blocks here (`inference.speed`), and a progress bar.
"""


def defer_imports() -> None:
    """Installs the deferral for every library that is not loaded yet; a second call does nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds modules of the libraries in `DEFERRED` as Python does, and gives them a loader that defers imports."""

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        library = fullname.partition(".")[0]
        if library not in DEFERRED:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _DeferringLoader(spec.loader, library)
        return spec


class _DeferringLoader(Loader):
    """Runs a module whose imports of some packages are bound late."""

    def __init__(self, loader: Any, library: str) -> None:
        self._loader = loader
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Runs a module, or, for a package in `_LAZY_PACKAGES`, lets the first attribute that is read run it."""
        if module.__name__ not in _LAZY_PACKAGES:
            self._run(module)
            return

        def run_and_get(name: str) -> Any:
            if name.startswith("__"):
                raise AttributeError(f"module '{module.__name__}' has no attribute '{name}'")
            del module.__dict__["__getattr__"]
            self._run(module)
            return getattr(module, name)

        module.__dict__["__getattr__"] = run_and_get

    def _run(self, module: ModuleType) -> None:
        """Runs a module with an `__import__` that binds placeholders of deferred packages."""
        # Imports inside functions come later, and are those of Python.
        running = True

        def import_(
            name: str,
            globals_: Any = None,
            locals_: Any = None,
            fromlist: Any = (),
            level: int = 0,
        ) -> Any:
            full_name = resolve_name("." * level + name, module.__package__ or "") if level else name
            if running and full_name not in sys.modules:
                if full_name in _ABSENT[self._library]:
                    raise ImportError(f"{full_name} is not loaded")
                if self._is_deferred(full_name):
                    return _DeferredModule(full_name if fromlist else full_name.partition(".")[0])
            return builtins.__import__(name, globals_, locals_, fromlist, level)

        # Python takes `__import__` from the builtins of the module that runs, so this changes no other module.
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": import_}
        try:
            with _compiler_disable_left_out() if module.__name__ in _NEVER_COMPILED else nullcontext():
                self._loader.exec_module(module)
        finally:
            running = False

    def _is_deferred(self, name: str) -> bool:
        """Returns whether a module lies in a deferred package that nothing has imported yet."""
        packages = (package for package in DEFERRED[self._library] if f"{name}.".startswith(f"{package}."))
        return any(package not in sys.modules for package in packages)


@contextmanager
def _compiler_disable_left_out() -> Iterator[None]:
    """Makes `torch.compiler.disable` return functions unchanged for a while."""
    import torch

    disable = torch.compiler.disable
    torch.compiler.disable = lambda function=None: function or (lambda decorated: decorated)
    try:
        yield
    finally:
        torch.compiler.disable = disable


class _DeferredModule:
    """Stands for a module that is not imported yet; its attributes are names that are bound when they are used."""

    def __init__(self, name: str) -> None:
        self._deferred_name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            return getattr(import_module(self._deferred_name), name)
        return _DeferredName(self._deferred_name, name)


class _DeferredName:
    """Stands for `name` of a module until it is used."""

    def __init__(self, module: str, name: str) -> None:
        self._deferred_module = module
        self._deferred_name = name

    def _resolve(self) -> Any:
        module = import_module(self._deferred_module)
        try:
            return getattr(module, self._deferred_name)
        except AttributeError:
            return import_module(f"{self._deferred_module}.{self._deferred_name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._resolve()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._resolve(), name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._resolve(),)

    # Nothing can be of a class whose module is not imported yet.
    def __instancecheck__(self, instance: Any) -> bool:
        return self._deferred_module in sys.modules and isinstance(instance, self._resolve())

    def __subclasscheck__(self, subclass: type) -> bool:
        return self._deferred_module in sys.modules and issubclass(subclass, self._resolve())

    # Type hints such as `X | None` are evaluated while a module loads; nobody reads them.
    def __or__(self, other: Any) -> Any:
        return Any

    def __ror__(self, other: Any) -> Any:
        return Any
