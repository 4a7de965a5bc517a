// What the kernels have in common. All of them belong to one stream and to the host code in src/backend/cuda/.
//
// Sums and products that decide about the bits of a row are written with the intrinsics that round each of them (`__fmaf_rn`,
// `__fadd_rn`, `__fmul_rn`), as a compiler is free to fuse the ordinary ones in one kernel and not in another. A row is then the same,
// bit for bit, however many rows a launch has.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

constexpr unsigned ALL = 0xffffffffu;
constexpr int LANES = 32;

__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int offset = LANES / 2; offset > 0; offset /= 2) x = __fadd_rn(x, __shfl_xor_sync(ALL, x, offset));
    return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int offset = LANES / 2; offset > 0; offset /= 2) x = fmaxf(x, __shfl_xor_sync(ALL, x, offset));
    return x;
}

// The sum over a block of whole warps, in every thread. `scratch` has room for one number a warp.
__device__ __forceinline__ float block_sum(float x, float *scratch) {
    x = warp_sum(x);
    const int warps = blockDim.x / LANES;
    if (threadIdx.x % LANES == 0) scratch[threadIdx.x / LANES] = x;
    __syncthreads();
    x = warp_sum(threadIdx.x % LANES < warps ? scratch[threadIdx.x % LANES] : 0.0f);
    __syncthreads();
    return x;
}

// Rounds 32 numbers, one a lane of a whole warp, to eight bits with a common scale, as the products with quantised weights take
// them. `index` is that of the lane's number, counted through all rows; their widths are multiples of 32.
__device__ __forceinline__ void quantise(float x, size_t index, int8_t *numbers, float *scales) {
    const float most = warp_max(fabsf(x));
    const float inverse = most > 0.0f ? __fdiv_rn(127.0f, most) : 0.0f;
    numbers[index] = (int8_t)__float2int_rn(__fmul_rn(x, inverse));
    if (threadIdx.x % LANES == 0) scales[index / LANES] = __fdiv_rn(most, 127.0f);
}
