"""Read files that torch wrote without running anything that stands in them.

A checkpoint, a state dict and a TorchScript archive are pickles beside raw numbers, and a pickle
names the functions that rebuild its objects. `torch.load` refuses unknown names, which excludes
every published checkpoint; `torch.jit.load` runs an archive's own code. This reader rebuilds plain
values and tensors only. Everything else becomes an `Opaque`, which remembers the name of its class
and its state as data. No function of the file's choice is ever called, and a tensor cannot reach
beyond the numbers stored for it.
"""

import errno
import io
import math
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import IO, Any

import torch
from torch import Tensor

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first value of a file of torch before 1.6
MOST_NUMBERS = 2**24  # of an expanded tensor, whose numbers are fewer in the file
COPIES = 16  # times its own length that a pickle may make rebuilding functions copy
_NUMPY_NUMBERS = {
    "f8": "d",
    "f4": "f",
    "f2": "e",
    "i8": "q",
    "i4": "i",
    "i2": "h",
    "i1": "b",
    "u8": "Q",
    "u4": "I",
    "u2": "H",
    "u1": "B",
    "b1": "?",
}
_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "UntypedStorage": torch.uint8,
}
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # names in pickles of protocol 2
_BROKEN = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Opaque:
    """An object that is not rebuilt. `kind` names its class; `state` is what the file stored."""

    kind = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Opaque":
        made = object.__new__(cls)
        made.args, made.state = args, None
        return made

    def __init__(self, *args: Any, **kwargs: Any):
        """Arguments were kept by __new__."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Items of a dict of an unknown class are left out."""

    def append(self, item: Any) -> None:
        """Items of a list of an unknown class are left out."""

    extend = add = append

    def __repr__(self) -> str:
        return f"<{_kind(self)}>"


class Unreadable(Exception):
    """The file is not what torch writes, or is damaged."""


class _Dict(dict):
    """Any of the dicts of `collections`, without attributes of its own."""

    def __setstate__(self, state: Any) -> None:
        """OrderedDict's attributes, such as a state dict's `_metadata`, are not needed."""


class _Stored:
    """A tensor that is still in the file: its storage's key and its view into the storage."""

    def __init__(
        self,
        storage: tuple[str, torch.dtype],
        offset: int,
        size: tuple,
        stride: tuple,
        dtype: torch.dtype | None = None,
    ):
        self.key, self.dtype = storage[0], dtype or storage[1]
        self.offset, self.size, self.stride = offset, tuple(size), tuple(stride)


class _Unpickler(pickle._Unpickler):  # in Python: the one in C can be made to fill the memory
    """Rebuilds plain values, `_Stored` tensors and `Opaque` objects."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: io.BytesIO):
        super().__init__(file, encoding="latin1")
        self.budget = COPIES * len(file.getbuffer())
        self.kinds: dict[str, type[Opaque]] = {}
        self.storages: dict[str, torch.dtype] = {}
        self.rebuild: dict[str, Callable] = {
            "collections.OrderedDict": self._dict,
            "collections.defaultdict": self._dict,
            "collections.Counter": self._dict,
            "builtins.set": self._set,
            "builtins.frozenset": self._set,
            "builtins.complex": _complex,
            "torch.Size": self._tuple,
            "_codecs.encode": self._bytes,
            "torch._utils._rebuild_tensor": lambda *a: _Stored(*a[:4]),
            "torch._utils._rebuild_tensor_v2": _plain_tensor,
            "torch._utils._rebuild_tensor_v3": lambda *a: _Stored(*a[:4], dtype=a[6]),
            "torch._utils._rebuild_parameter": lambda data, *_: data,
            "torch._utils._rebuild_parameter_with_state": lambda data, *_: data,
            "torch._tensor._rebuild_from_type_v2": lambda rebuild, _, args, __: self._call(
                rebuild, args
            ),
            "torch.jit._pickle.build_intlist": lambda items: items,
            "torch.jit._pickle.build_doublelist": lambda items: items,
            "torch.jit._pickle.build_boollist": lambda items: items,
            "torch.jit._pickle.build_tensorlist": lambda items: items,
            "torch.jit._pickle.restore_type_tag": lambda value, _: value,
            **{f"numpy.{core}.multiarray.scalar": self._number for core in ("core", "_core")},
        }

    def find_class(self, module: str, name: str) -> Any:
        """What stands for the global `module`.`name` of the file."""
        full = f"{_PYTHON_2.get(module, module)}.{name}"
        if full in self.rebuild:
            return self.rebuild[full]
        if module in ("torch", "torch.storage"):
            if isinstance(dtype := vars(torch).get(name), torch.dtype):  # imports nothing
                return dtype
            if name in _STORAGES:
                return _STORAGES[name]
        if full not in self.kinds:
            self.kinds[full] = type("Opaque", (Opaque,), {"kind": full})
        return self.kinds[full]

    def persistent_load(self, pid: Any) -> tuple[str, torch.dtype]:
        """A storage: its key in the file and the type of its numbers."""
        word, dtype, key = pid[:3]
        if word != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(key, str):
            raise pickle.UnpicklingError("not a storage")
        self.storages[key] = dtype
        return key, dtype

    def _call(self, function: Any, args: tuple) -> Any:
        known = function in self.rebuild.values() if callable(function) else False
        opaque = isinstance(function, type) and issubclass(function, Opaque)
        if not (known or opaque):
            raise pickle.UnpicklingError("calls what is no rebuilding function")
        return function(*args)

    def _number(self, dtype: Opaque, data: bytes = b"") -> Any:
        """A number of numpy's as Python's."""
        code = dtype.args[0] if dtype.kind == "numpy.dtype" and dtype.args else ""
        if type(code) is not str or code not in _NUMPY_NUMBERS:
            return self.find_class("numpy", "generic")(data)
        big = isinstance(dtype.state, tuple) and ">" in dtype.state[:2]
        return struct.unpack(("><"[not big]) + _NUMPY_NUMBERS[code], data)[0]

    # What rebuilding functions make, within a budget: a file may name one large value many times.

    def _spend(self, value: Any) -> Any:
        if not isinstance(value, (str, list, tuple, dict, set, frozenset)):
            raise pickle.UnpicklingError("no text, list or dict")
        self.budget -= len(value)
        if self.budget < 0:
            raise pickle.UnpicklingError("copies itself without end")
        return value

    def _dict(self, *args: Any) -> _Dict:
        made = _Dict()
        for items in args:
            if isinstance(items, (dict, list, tuple)):
                pairs = items.items() if isinstance(items, dict) else items
                self._spend(items)
                for key, value in pairs:
                    made[_key(key)] = value
        return made

    def _set(self, items: Any = ()) -> set:
        return {_key(item) for item in self._spend(items)}

    def _tuple(self, items: Any = ()) -> tuple:
        return tuple(self._spend(items))

    def _bytes(self, text: str, encoding: str = "latin1") -> bytes:
        """How protocol 2 writes bytes."""
        return self._spend(text).encode("latin1")

    # Keys: hashing nested tuples can take for ever.

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.stack[-1][_key(key)] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            self.stack[-1][_key(key)] = value

    def load_additems(self) -> None:
        for item in self.pop_mark():
            self.stack[-1].add(_key(item))

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)})

    def load_frozenset(self) -> None:
        self.append({_key(item) for item in self.pop_mark()})

    def load_bytearray8(self) -> None:
        raise pickle.UnpicklingError("a length that only the file tells")

    # The instructions that call something or set attributes.

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def load_newobj(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self._call(self.stack[-1], args)

    def load_newobj_ex(self) -> None:
        self.stack.pop()
        self.load_newobj()

    def _instantiate(self, kind: Any, args: list) -> None:
        self.append(self._call(kind, tuple(args)))

    def load_build(self) -> None:
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (Opaque, _Dict)):
            raise pickle.UnpicklingError("sets the state of a plain value")
        self.stack[-1].__setstate__(state)

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.ADDITEMS[0]] = load_additems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.FROZENSET[0]] = load_frozenset
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.NEWOBJ_EX[0]] = load_newobj_ex
    dispatch[pickle.BUILD[0]] = load_build


_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def _key(value: Any) -> Any:
    """`value` if it can be a key without cost: a plain value, a flat tuple of such, an object."""
    flat = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(item, (*_PLAIN, torch.dtype, _Stored, Opaque)) for item in flat):
        raise pickle.UnpicklingError("a key of nested values")
    return value


def _complex(real: float, imaginary: float = 0.0) -> complex:
    if not isinstance(real, (int, float)) or not isinstance(imaginary, (int, float)):
        raise pickle.UnpicklingError("no number")
    return complex(real, imaginary)


def _plain_tensor(*args: Any) -> _Stored:
    if any(args[6:]):  # its numbers are stored conjugated or negated
        raise pickle.UnpicklingError("a tensor in another form than its numbers")
    return _Stored(*args[:4])


class _Numbers:
    """The tensors of a file, made from its storages when they are asked for."""

    def __init__(self, read: Callable[[str], bytearray]):
        self.read = read
        self.storages: dict[str, bytearray] = {}

    def tensor(self, stored: _Stored) -> Tensor:
        """A view into its storage. Raises Unreadable if the storage does not hold it."""
        if stored.key not in self.storages:
            self.storages[stored.key] = self.read(stored.key)
        data = self.storages[stored.key]
        shape = (stored.offset, *stored.size, *stored.stride)
        if not all(type(number) is int and number >= 0 for number in shape):
            raise Unreadable("a tensor has a shape that is none")
        count, stored_numbers = math.prod(stored.size), len(data) // stored.dtype.itemsize
        steps = zip(stored.size, stored.stride, strict=True)
        last = stored.offset + sum((size - 1) * stride for size, stride in steps)
        if count and (last >= stored_numbers or count > max(stored_numbers, MOST_NUMBERS)):
            raise Unreadable("a tensor is larger than what is stored of it")
        if not count:
            return torch.empty(stored.size, dtype=stored.dtype)
        flat = torch.frombuffer(data, dtype=stored.dtype, count=stored_numbers)
        return flat.as_strided(stored.size, stored.stride, stored.offset)


def _finished(content: Any, numbers: _Numbers, skipped: set[str], memo: dict[int, Any]) -> Any:
    """`content` with its tensors read, plain dicts, and the kinds of opaque objects noted."""
    if isinstance(content, (type(None), bool, int, float, complex, str, bytes, torch.dtype)):
        return content
    if id(content) in memo:
        return memo[id(content)][0]
    if isinstance(content, _Stored):
        made: Any = numbers.tensor(content)
    elif isinstance(content, dict):
        memo[id(content)] = (made := {}, content)
        made |= {key: _finished(value, numbers, skipped, memo) for key, value in content.items()}
    elif isinstance(content, list):
        memo[id(content)] = (made := [], content)
        made += [_finished(value, numbers, skipped, memo) for value in content]
    elif isinstance(content, (tuple, set, frozenset)):
        made = type(content)(_finished(value, numbers, skipped, memo) for value in content)
    else:
        skipped.add(_kind(content))
        made = content if isinstance(content, Opaque) else Opaque()
    memo[id(content)] = (made, content)  # the original, too, so that its id stays taken
    return made


def _kind(content: Any) -> str:
    """The name of the class of an object that was not rebuilt."""
    args = content.args if isinstance(content, Opaque) else ()
    if args and isinstance(args[0], type) and issubclass(args[0], Opaque):
        return args[0].kind  # what a function such as numpy's _reconstruct would make
    return getattr(content, "kind", type(content).__name__)


def _module_tensors(module: Opaque, prefix: str, seen: set[int]) -> dict[str, _Stored]:
    """{dotted name: tensor} of a TorchScript module, as its state_dict names them."""
    if id(module) in seen or not isinstance(module.state, dict):
        return {}
    seen.add(id(module))
    tensors: dict[str, _Stored] = {}
    for name, value in module.state.items():
        if isinstance(value, _Stored):
            tensors[f"{prefix}{name}"] = value
        elif isinstance(value, Opaque):
            tensors |= _module_tensors(value, f"{prefix}{name}.", seen)
    return tensors


def _read_zip(whole: IO[bytes]) -> tuple[Any, set[str]]:
    bytes_left = whole.seek(0, io.SEEK_END)  # bytes that the entries can have together
    with zipfile.ZipFile(whole) as archive:
        entries = {info.filename: info for info in archive.infolist()}
        root = next(
            (
                name[: -len("data.pkl")]
                for name in entries
                if name.endswith("data.pkl") and name.count("/") == 1
            ),
            None,
        )
        if root is None:
            raise Unreadable("no data.pkl")

        def record(name: str) -> bytearray:
            nonlocal bytes_left
            info = entries[root + name]
            bytes_left -= info.file_size
            if bytes_left < 0 or info.compress_type != zipfile.ZIP_STORED:  # torch packs nothing
                raise Unreadable("an entry is larger than the file")
            with archive.open(info) as file:
                return bytearray(file.read())

        if f"{root}byteorder" in entries and record("byteorder") != b"little":
            raise Unreadable("numbers of a big-endian machine")
        content = _Unpickler(io.BytesIO(record("data.pkl"))).load()
        if f"{root}constants.pkl" in entries:  # TorchScript
            content = _module_tensors(content, "", set()) if isinstance(content, Opaque) else {}
        skipped: set[str] = set()
        numbers = _Numbers(lambda key: record(f"data/{key}"))
        return _finished(content, numbers, skipped, {}), skipped


def _read_legacy(whole: IO[bytes]) -> tuple[Any, set[str]]:
    whole.seek(0)
    file = io.BytesIO(whole.read())  # a length that the file tells then takes no memory
    if _Unpickler(file).load() != LEGACY_MAGIC:
        raise Unreadable("not torch's")
    for _ in ("protocol version", "byte order and sizes"):
        _Unpickler(file).load()
    unpickler = _Unpickler(file)
    content, storages = unpickler.load(), {}
    keys = _Unpickler(file).load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise Unreadable("its storages have no names")
    for key in keys:
        count = struct.unpack("<q", file.read(8))[0] * unpickler.storages[key].itemsize
        storages[key] = bytearray(file.read(count)) if count >= 0 else bytearray()
        if len(storages[key]) != count:
            raise Unreadable("cut short")
    skipped: set[str] = set()
    return _finished(content, _Numbers(storages.__getitem__), skipped, {}), skipped


def read_file(path: str) -> tuple[Any, set[str]]:
    """What torch.save or torch.jit.save wrote to `path`, on the CPU, and what was left unread.

    Dicts, lists and tuples of numbers, text and tensors come as they were; of a TorchScript archive
    {name: tensor}. Objects of any other class come as `Opaque`, and their classes' names are the
    second value. Raises Unreadable for another or a damaged file, OSError or MemoryError where
    reading it fails.
    """
    with open(path, "rb") as file:
        try:
            return _read_zip(file) if zipfile.is_zipfile(file) else _read_legacy(file)
        except _BROKEN as error:
            raise Unreadable(type(error).__name__) from None  # its text may be as long as it likes
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise Unreadable("it points outside itself") from None  # a damaged table of contents


def unread(path: str, kinds: set[str]) -> str:
    """The sentence about what `read_file` left unread of a file."""
    return (
        f"Not read from '{path}', since only tensors and plain values are: "
        f"{', '.join(sorted(kinds))}"
    )
