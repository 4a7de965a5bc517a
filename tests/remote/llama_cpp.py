"""llama.cpp's own server on a port of its own, until standard input ends."""

import sys

import xllamacpp

parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.port = 0
parameters.api_keys = [sys.argv[2]]
parameters.n_parallel = 2
parameters.n_ctx = 2048
parameters.cpuparams.n_threads = 2
server = xllamacpp.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
