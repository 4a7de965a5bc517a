// What is done with each row, or each number, for itself.

#include "common.cuh"

// Normalises rows: by the root of their mean square, or, with `centred`, by mean and deviation. The result also goes to `numbers` and
// `scales`, rounded to eight bits, unless `numbers` is null.
//
// grid: rows; block: whole warps, 1024 threads at most; shared: `width` floats
extern "C" __global__ void norm_rows(const float *x, const float *weight, const float *bias, float *out, int8_t *numbers, float *scales,
                                int width, float epsilon, int centred) {
    extern __shared__ float row[];
    __shared__ float scratch[LANES];
    const size_t start = (size_t)blockIdx.x * width;
    float sum = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        row[i] = x[start + i];
        sum = __fadd_rn(sum, row[i]);
    }
    const float mean = centred ? __fdiv_rn(block_sum(sum, scratch), (float)width) : 0.0f;
    float squares = 0.0f;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        const float apart = __fsub_rn(row[i], mean);
        squares = __fmaf_rn(apart, apart, squares);
    }
    const float variance = __fdiv_rn(block_sum(squares, scratch), (float)width);
    const float factor = __frsqrt_rn(__fadd_rn(variance, epsilon));
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        const float normal = __fmul_rn(__fsub_rn(row[i], mean), factor);
        const float value = bias ? __fmaf_rn(normal, weight[i], bias[i]) : __fmul_rn(normal, weight[i]);
        out[start + i] = value;
        // A width that is rounded is a multiple of 32, so that the lanes of a warp are here together.
        if (numbers) quantise(value, start + i, numbers, scales);
    }
}

// Rounds all numbers to eight bits.
//
// grid x block: `count` threads or more, in whole warps; `count` is a multiple of 32
extern "C" __global__ void round_rows(const float *x, int8_t *numbers, float *scales, int64_t count) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) quantise(x[i], i, numbers, scales);
}

// What numbers are once they were rounded to eight bits. The library's kernels for many rows round what they are given, but add up what
// belongs to the addends of a format before that, so that the two parts of a product would be of different numbers: with factors of 0
// to 15 and an addend that takes half of it away again, the rounding would count about twice.
//
// grid x block: `count` threads or more, in whole warps; `count` is a multiple of 32
extern "C" __global__ void as_rounded(const float *x, float *out, int64_t count) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float most = warp_max(fabsf(x[i]));
    const float inverse = most > 0.0f ? __fdiv_rn(127.0f, most) : 0.0f;
    out[i] = __fmul_rn(rintf(__fmul_rn(x[i], inverse)), __fdiv_rn(most, 127.0f));
}

// The activations of a feed-forward: 0 max(up, 0)^2, 1 silu(gate) * up, 2 gelu(gate) * up with the hyperbolic tangent's approximation.
// A gated row has the gate and then `up`, each of `width`.
//
// grid: (width / block or more, rows); block: whole warps
extern "C" __global__ void activate(const float *x, float *out, int8_t *numbers, float *scales, int width, int kind) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= width) return;
    const size_t to = (size_t)blockIdx.y * width + i;
    float value;
    if (kind == 0) {
        const float up = fmaxf(x[to], 0.0f);
        value = __fmul_rn(up, up);
    } else {
        const size_t from = (size_t)blockIdx.y * 2 * width + i;
        const float gate = x[from], up = x[from + width];
        if (kind == 1) {
            value = __fmul_rn(__fdiv_rn(gate, __fadd_rn(1.0f, expf(-gate))), up);
        } else {
            // sqrt(2 / pi) * (gate + 0.044715 gate^3)
            const float inner = __fmul_rn(0.7978845608028654f, __fmaf_rn(__fmul_rn(0.044715f, __fmul_rn(gate, gate)), gate, gate));
            value = __fmul_rn(__fmul_rn(__fmul_rn(0.5f, gate), __fadd_rn(1.0f, tanhf(inner))), up);
        }
    }
    out[to] = value;
    if (numbers) quantise(value, to, numbers, scales);
}

// into += x
extern "C" __global__ void add(float *into, const float *x, int64_t count) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) into[i] = __fadd_rn(into[i], x[i]);
}

// x *= factor
extern "C" __global__ void scale(float *x, float factor, int64_t count) {
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) x[i] = __fmul_rn(x[i], factor);
}

// Rows of a product that was computed elsewhere, into `out`, whose rows are `stride` wide: what is there already is added to, where
// `onto` is set.
//
// grid: (width / block or more, rows)
extern "C" __global__ void place(const float *x, const float *bias, float *out, int width, int64_t stride, int onto) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= width) return;
    float value = x[(size_t)blockIdx.y * width + i];
    if (bias) value = __fadd_rn(value, bias[i]);
    float *to = out + blockIdx.y * stride + i;
    *to = onto ? __fadd_rn(*to, value) : value;
}

// The largest number of a stretch of each row, where it stands (the first of equals) and the sum of exp(number - largest).
//
// grid: (parts, rows); block: BEST; a row has `width` numbers, a part `width / parts` of them, rounded up
constexpr int BEST = 256;

struct Part {
    float largest, sum;
    int at;
};

__device__ __forceinline__ Part joined(Part a, Part b) {
    Part both = a;
    if (b.largest > a.largest || (b.largest == a.largest && b.at < a.at)) both.largest = b.largest, both.at = b.at;
    if (both.largest == -INFINITY) return both;
    both.sum = __fmaf_rn(a.sum, expf(__fsub_rn(a.largest, both.largest)), __fmul_rn(b.sum, expf(__fsub_rn(b.largest, both.largest))));
    return both;
}

__device__ __forceinline__ Part warp_joined(Part part) {
#pragma unroll
    for (int offset = LANES / 2; offset > 0; offset /= 2) {
        const Part other = {__shfl_xor_sync(ALL, part.largest, offset), __shfl_xor_sync(ALL, part.sum, offset),
                            __shfl_xor_sync(ALL, part.at, offset)};
        part = joined(part, other);
    }
    return part;
}

extern "C" __global__ void __launch_bounds__(BEST) best_of_parts(const float *x, Part *out, int width) {
    __shared__ Part warps[BEST / LANES];
    const int length = (width + gridDim.x - 1) / gridDim.x;
    const int begin = blockIdx.x * length, end = min(begin + length, width);
    const float *row = x + (size_t)blockIdx.y * width;
    Part part = {-INFINITY, 0.0f, INT32_MAX};
    for (int i = begin + threadIdx.x; i < end; i += BEST) {
        const float value = row[i];
        if (value > part.largest) part.largest = value, part.at = i;
    }
    if (part.largest > -INFINITY)
        for (int i = begin + threadIdx.x; i < end; i += BEST) part.sum = __fadd_rn(part.sum, expf(__fsub_rn(row[i], part.largest)));
    part = warp_joined(part);
    if (threadIdx.x % LANES == 0) warps[threadIdx.x / LANES] = part;
    __syncthreads();
    if (threadIdx.x >= LANES) return;
    part = warps[threadIdx.x % (BEST / LANES)];
    if (threadIdx.x >= BEST / LANES) part = {-INFINITY, 0.0f, INT32_MAX};
    part = warp_joined(part);
    if (threadIdx.x == 0) out[(size_t)blockIdx.y * gridDim.x + blockIdx.x] = part;
}

// Puts the parts of a row together: where the largest number stands, itself, and the logarithm of the sum of exponentials.
//
// grid: rows; block: a warp
extern "C" __global__ void best(const Part *parts, float *out, int count) {
    Part part = {-INFINITY, 0.0f, INT32_MAX};
    for (int i = threadIdx.x; i < count; i += LANES) part = joined(part, parts[(size_t)blockIdx.x * count + i]);
    part = warp_joined(part);
    if (threadIdx.x != 0) return;
    float *to = out + 3 * blockIdx.x;
    to[0] = __int_as_float(part.at);
    to[1] = part.largest;
    to[2] = __fadd_rn(part.largest, logf(part.sum));
}
