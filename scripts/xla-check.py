"""Gives HLO texts to XLA's own parser, and runs some of them on XLA's CPU backend.

Reads requests from standard input, one JSON object a line, and writes one line for each answer.
scripts/xla-check.ts starts this program. Needs Python 3.11 and `jax==0.10.2`, whose private modules
`_hlo` and `_jax` give access to the parser.

  {"texts": [TEXT, ...]}                     {"texts": [{"printed": TEXT} or {"error": WHY}, ...]}
  {"run": TEXT, "arguments": [LITERAL]}      {"results": [LITERAL]} or {"error": WHY}

A literal is {"type": "f32", "dims": [2, 3], "hex": bytes in memory order}.
"""
import json
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
# These flags forbid XLA to leave out roundings to bf16 and to reorder float arithmetic, which it
# does for speed otherwise.
os.environ["XLA_FLAGS"] = (
    "--xla_allow_excess_precision=false --xla_disable_hlo_passes=algsimp --xla_cpu_enable_fast_math=false"
)

import jax
import ml_dtypes
import numpy
from jaxlib import _hlo, _jax

jax.config.update("jax_enable_x64", True)

TYPES = {
    "pred": numpy.bool_,
    "s2": ml_dtypes.int2, "s4": ml_dtypes.int4, "s8": numpy.int8, "s16": numpy.int16,
    "s32": numpy.int32, "s64": numpy.int64,
    "u2": ml_dtypes.uint2, "u4": ml_dtypes.uint4, "u8": numpy.uint8, "u16": numpy.uint16,
    "u32": numpy.uint32, "u64": numpy.uint64,
    "f8e5m2": ml_dtypes.float8_e5m2, "f8e4m3": ml_dtypes.float8_e4m3,
    "f8e4m3fn": ml_dtypes.float8_e4m3fn, "f8e3m4": ml_dtypes.float8_e3m4,
    "f8e4m3b11fnuz": ml_dtypes.float8_e4m3b11fnuz, "f8e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "f8e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "bf16": ml_dtypes.bfloat16, "f16": numpy.float16, "f32": numpy.float32,
}
NAMES = {numpy.dtype(dtype): name for name, dtype in TYPES.items()}

print_options = _hlo.HloPrintOptions()
print_options.print_large_constants = True


def array_of(literal):
    raw = numpy.frombuffer(bytes.fromhex(literal["hex"]), dtype=numpy.uint8)
    return raw.view(TYPES[literal["type"]]).reshape(literal["dims"]).copy()


def literal_of(array):
    return {"type": NAMES[array.dtype], "dims": list(array.shape), "hex": array.tobytes().hex()}


def parse(text):
    try:
        return {"printed": _hlo.hlo_module_from_text(text).to_string(print_options)}
    except Exception as error:
        return {"error": str(error)}


def run(text, arguments):
    try:
        device = jax.devices()[0]
        proto = _hlo.hlo_module_from_text(text).as_serialized_hlo_module_proto()
        executable = device.client.compile_and_load(
            _jax.mlir.hlo_to_stablehlo(proto), _jax.DeviceList((device,)), _jax.CompileOptions()
        )
        on_device = [jax.device_put(array_of(it), device) for it in arguments]
        results = executable.execute_sharded(on_device).disassemble_into_single_device_arrays()
        return {"results": [literal_of(numpy.asarray(it[0])) for it in results]}
    except Exception as error:
        return {"error": str(error)}


for line in sys.stdin:
    request = json.loads(line)
    if "texts" in request:
        answer = {"texts": [parse(text) for text in request["texts"]]}
    else:
        answer = run(request["run"], request["arguments"])
    print(json.dumps(answer), flush=True)
