"""How fast llama.cpp runs a model here: the peer of `nemotermd bench`, which `cargo xtask llama` runs in turn with this.

    llama_cpp.py LIBRARY MODEL THREADS REPEATS FIGURE...

LIBRARY is any shared library that exports llama.cpp's C interface. A figure is ppN, a prompt of N tokens, or tgN, N tokens
generated after a prompt of 64; each is the median of REPEATS runs, in tokens a second. Where that is more than one, another
one before them is not counted. The tokens are those of `crates/engine/src/bench.rs`. Generated ones are given, not chosen, so that no choosing is timed.
"""

import ctypes
import json
import statistics
import sys
import time


class Parameters(ctypes.Structure):
    """Parameters of a model or a context, whose fields differ from release to release. They are only handed from the
    library to the library, by value; so it is enough that this is larger than either of them."""

    _fields_ = [("bytes", ctypes.c_uint64 * 256)]


class Batch(ctypes.Structure):
    """A `llama_batch`; larger than it is, likewise."""

    _fields_ = [("bytes", ctypes.c_uint64 * 32)]


def functions(path):
    library = ctypes.CDLL(path)
    pointer, integer, text = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p
    for name, result, arguments in [
        ("llama_log_set", None, [pointer, pointer]),
        ("llama_backend_init", None, []),
        ("llama_print_system_info", text, []),
        ("llama_model_default_params", Parameters, []),
        ("llama_model_load_from_file", pointer, [text, Parameters]),
        ("llama_model_get_vocab", pointer, [pointer]),
        ("llama_vocab_n_tokens", integer, [pointer]),
        ("llama_context_default_params", Parameters, []),
        ("llama_init_from_model", pointer, [pointer, Parameters]),
        ("llama_set_n_threads", None, [pointer, integer, integer]),
        ("llama_get_memory", pointer, [pointer]),
        ("llama_memory_seq_rm", ctypes.c_bool, [pointer, integer, integer, integer]),
        ("llama_batch_get_one", Batch, [ctypes.POINTER(integer), integer]),
        ("llama_decode", integer, [pointer, Batch]),
        ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [pointer, integer]),
    ]:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def main():
    path, file, threads, repeats, *figures = sys.argv[1:]
    repeats = int(repeats)
    llama = functions(path)
    silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    llama.llama_log_set(ctypes.cast(silent, ctypes.c_void_p), None)
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(file.encode(), llama.llama_model_default_params())
    if not model:
        sys.exit(f"llama.cpp can't load {file}")
    # Its context of 512 tokens is enough for all of it.
    context = llama.llama_init_from_model(model, llama.llama_context_default_params())
    if not context:
        sys.exit(f"llama.cpp can't run {file}")
    llama.llama_set_n_threads(context, int(threads), int(threads))
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))

    def run(first, count):
        tokens = (ctypes.c_int32 * count)(*((first + i) * 7919 % vocabulary for i in range(count)))
        if llama.llama_decode(context, llama.llama_batch_get_one(tokens, count)) != 0:
            sys.exit("llama.cpp can't run these tokens")
        # Reading them waits until they are there.
        return llama.llama_get_logits_ith(context, -1)[0]

    def cut(length):
        llama.llama_memory_seq_rm(llama.llama_get_memory(context), -1, length, -1)

    def speed(figure):
        kind, count = figure[:2], int(figure[2:])
        times = []
        for _ in range(repeats + (repeats > 1)):
            cut(0)
            if kind == "tg":
                run(0, 64)
            started = time.perf_counter()
            if kind == "tg":
                for i in range(count):
                    run(64 + i, 1)
            else:
                run(0, count)
            times.append(time.perf_counter() - started)
        return count / statistics.median(times[-repeats:])

    run(0, 64)
    print(json.dumps({"system": llama.llama_print_system_info().decode()} | {name: speed(name) for name in figures}))


main()
