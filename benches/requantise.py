"""Makes a GGUF file of another one whose matrices are quantised otherwise: requantise.py SOURCE q4_0|q8_0 TARGET

Matrices of the source's main type become the other type; what is not of that type stays as it is, as in llama.cpp's own files
of small models, whose embedding has more bits. So the weights are rounded twice, which does not change how fast they are.
"""

import sys
from collections import Counter

import gguf
import numpy


def main():
    source, name, target = sys.argv[1:]
    kind = {"q4_0": gguf.GGMLQuantizationType.Q4_0, "q8_0": gguf.GGMLQuantizationType.Q8_0}[name]
    reader = gguf.GGUFReader(source)
    main_kind, _ = Counter(tensor.tensor_type for tensor in reader.tensors if len(tensor.shape) > 1).most_common(1)[0]
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name == "general.architecture":
            continue
        value, types = field.contents(), field.types
        if field.name == "general.file_type":
            value = {"q4_0": gguf.LlamaFileType.MOSTLY_Q4_0, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}[name]
        writer.add_key_value(field.name, value, types[0], types[-1] if len(types) > 1 else None)
    tensors = []
    for tensor in reader.tensors:
        data, known = numpy.array(tensor.data), tensor.tensor_type
        if known == main_kind:
            data, known = gguf.quantize(gguf.dequantize(data, known), kind), kind
        tensors.append((tensor.name, data, known))
    for tensor_name, data, known in tensors:
        writer.add_tensor(tensor_name, data, raw_dtype=known)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main()
