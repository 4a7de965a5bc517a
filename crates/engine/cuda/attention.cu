// Attention over caches in f16. A pass has rows of up to eight texts, each with a cache of its own: for each row `positions` says
// where it stands and `spans` in which cache. Both are read from memory, so that a launch that was recorded serves for every position.
//
// Caches are [position, key/value head, head]. Positions are taken in chunks of 64 from the beginning, whatever row asks, so that the
// sums of a row are the same beside other rows.

#include "common.cuh"

constexpr int TEXTS = 8;
// Query heads that share keys and values, of one launch's block; there are more blocks where there are more heads.
constexpr int GROUP = 8;
constexpr int CHUNK = 64;
constexpr int MOST_HEAD = 256;
constexpr int THREADS = 128;

struct Caches {
    __half *keys[TEXTS];
    __half *values[TEXTS];
};

struct HeadNorm {
    // Null where there is none.
    const float *weight;
    const float *bias;
    float epsilon;
    int centred;
};

__device__ __forceinline__ void apply(const HeadNorm &norm, float *vector, int head, float *scratch) {
    float sum = 0.0f;
    for (int i = threadIdx.x; i < head; i += blockDim.x) sum = __fadd_rn(sum, vector[i]);
    const float mean = norm.centred ? __fdiv_rn(block_sum(sum, scratch), (float)head) : 0.0f;
    float squares = 0.0f;
    for (int i = threadIdx.x; i < head; i += blockDim.x) {
        const float apart = __fsub_rn(vector[i], mean);
        squares = __fmaf_rn(apart, apart, squares);
    }
    const float variance = __fdiv_rn(block_sum(squares, scratch), (float)head);
    const float factor = __frsqrt_rn(__fadd_rn(variance, norm.epsilon));
    for (int i = threadIdx.x; i < head; i += blockDim.x) {
        const float normal = __fmul_rn(__fsub_rn(vector[i], mean), factor);
        vector[i] = norm.bias ? __fmaf_rn(normal, norm.weight[i], norm.bias[i]) : __fmul_rn(normal, norm.weight[i]);
    }
    __syncthreads();
}

// Normalises and rotates queries, which stay where they are and are scaled, and keys, which go to the caches like values. Rows have
// the queries of all heads, then the keys, then the values.
//
// grid: (heads + 2 * kv_heads, rows); block: THREADS
extern "C" __global__ void rotate(float *qkv, const __grid_constant__ Caches caches, const int *positions, const int *spans, const float *cosines,
                                  const float *sines, HeadNorm query_norm, HeadNorm key_norm, int heads, int kv_heads, int head,
                                  int rotary, int pairs, float scale) {
    __shared__ float vector[MOST_HEAD];
    __shared__ float scratch[LANES];
    const int which = blockIdx.x, row = blockIdx.y;
    const int position = positions[row], span = spans[row];
    float *from = qkv + ((size_t)row * (heads + 2 * kv_heads) + which) * head;
    const bool is_query = which < heads, is_value = which >= heads + kv_heads;
    for (int i = threadIdx.x; i < head; i += blockDim.x) vector[i] = from[i];
    __syncthreads();
    if (is_value) {
        __half *to = caches.values[span] + ((size_t)position * kv_heads + (which - heads - kv_heads)) * head;
        for (int i = threadIdx.x; i < head; i += blockDim.x) to[i] = __float2half_rn(vector[i]);
        return;
    }
    const HeadNorm &norm = is_query ? query_norm : key_norm;
    if (norm.weight) apply(norm, vector, head, scratch);
    const int half = rotary / 2;
    for (int i = threadIdx.x; i < half; i += blockDim.x) {
        const int a = pairs ? 2 * i : i, b = pairs ? 2 * i + 1 : i + half;
        const float cosine = cosines[(size_t)position * half + i], sine = sines[(size_t)position * half + i];
        const float x = vector[a], y = vector[b];
        vector[a] = __fmaf_rn(x, cosine, -__fmul_rn(y, sine));
        vector[b] = __fmaf_rn(x, sine, __fmul_rn(y, cosine));
    }
    __syncthreads();
    if (is_query) {
        for (int i = threadIdx.x; i < head; i += blockDim.x) from[i] = __fmul_rn(vector[i], scale);
    } else {
        __half *to = caches.keys[span] + ((size_t)position * kv_heads + (which - heads)) * head;
        for (int i = threadIdx.x; i < head; i += blockDim.x) to[i] = __float2half_rn(vector[i]);
    }
}

// The attention of a row's heads over the chunks `blockIdx.y`, `blockIdx.y + gridDim.y` and so on: the sum of values weighted by
// exp(score - most), `most` itself and the sum of the weights, each [row, head, gridDim.y]. Where none of the chunks is seen, the last is 0.
//
// grid: (kv_heads * groups, chunks at once, rows); block: THREADS. `group` query heads share keys and values, in blocks of GROUP.
extern "C" __global__ void __launch_bounds__(THREADS)
    attend(const float *qkv, const __grid_constant__ Caches caches, const int *positions, const int *spans, float *partial, float2 *weights, int heads,
           int kv_heads, int head, int group, int window) {
    __shared__ float query[GROUP][MOST_HEAD];
    __shared__ float scores[GROUP][CHUNK];
    __shared__ float most[GROUP], total[GROUP], factor[GROUP];
    const int row = blockIdx.z, warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const int groups = (group + GROUP - 1) / GROUP;
    const int kv_head = blockIdx.x / groups;
    const int first_head = kv_head * group + blockIdx.x % groups * GROUP;
    const int here = min(GROUP, (kv_head + 1) * group - first_head);
    const int position = positions[row], span = spans[row];
    const int first = window > 0 ? max(0, position + 1 - window) : 0;
    const int last_chunk = position / CHUNK;
    const size_t stride = (size_t)kv_heads * head;
    const __half *keys = caches.keys[span] + (size_t)kv_head * head;
    const __half *values = caches.values[span] + (size_t)kv_head * head;

    if (threadIdx.x < GROUP) {
        most[threadIdx.x] = -INFINITY;
        total[threadIdx.x] = 0.0f;
    }
    const float *queries = qkv + ((size_t)row * (heads + 2 * kv_heads) + first_head) * head;
    for (int i = threadIdx.x; i < here * head; i += THREADS) query[i / head][i % head] = queries[i];

    float sums[MOST_HEAD / THREADS][GROUP];
#pragma unroll
    for (int d = 0; d < MOST_HEAD / THREADS; d++)
#pragma unroll
        for (int g = 0; g < GROUP; g++) sums[d][g] = 0.0f;

    for (int chunk = blockIdx.y; chunk <= last_chunk; chunk += gridDim.y) {
        const int begin = chunk * CHUNK, end = min(begin + CHUNK, position + 1);
        if (end <= first) continue;
        __syncthreads();
        // Eight lanes to a position, each with every eighth pair of its numbers.
        for (int at = warp * 4 + lane / 8; at < CHUNK; at += 16) {
            const int seen = begin + at;
            const bool visible = seen >= first && seen < end;
            float dot[GROUP];
#pragma unroll
            for (int g = 0; g < GROUP; g++) dot[g] = 0.0f;
            if (visible) {
                const __half2 *key = (const __half2 *)(keys + seen * stride);
                for (int i = lane % 8; i < head / 2; i += 8) {
                    const float2 two = __half22float2(key[i]);
#pragma unroll
                    for (int g = 0; g < GROUP; g++) {
                        if (g >= here) break;
                        dot[g] = __fmaf_rn(query[g][2 * i], two.x, dot[g]);
                        dot[g] = __fmaf_rn(query[g][2 * i + 1], two.y, dot[g]);
                    }
                }
            }
#pragma unroll
            for (int g = 0; g < GROUP; g++) {
                if (g >= here) break;
#pragma unroll
                for (int offset = 4; offset > 0; offset /= 2)
                    dot[g] = __fadd_rn(dot[g], __shfl_xor_sync(ALL, dot[g], offset));
                if (lane % 8 == 0) scores[g][at] = visible ? dot[g] : -INFINITY;
            }
        }
        __syncthreads();
        for (int g = warp; g < here; g += THREADS / LANES) {
            const float a = scores[g][lane], b = scores[g][lane + LANES];
            const float highest = fmaxf(most[g], warp_max(fmaxf(a, b)));
            const float x = expf(__fsub_rn(a, highest)), y = expf(__fsub_rn(b, highest));
            const float sum = warp_sum(__fadd_rn(x, y));
            scores[g][lane] = x;
            scores[g][lane + LANES] = y;
            __syncwarp();
            if (lane == 0) {
                factor[g] = expf(__fsub_rn(most[g], highest));
                total[g] = __fmaf_rn(total[g], factor[g], sum);
                most[g] = highest;
            }
        }
        __syncthreads();
        const int from = max(begin, first);
#pragma unroll
        for (int d = 0; d < MOST_HEAD / THREADS; d++) {
            const int dim = threadIdx.x + d * THREADS;
            if (dim >= head) break;
#pragma unroll
            for (int g = 0; g < GROUP; g++)
                if (g < here) sums[d][g] = __fmul_rn(sums[d][g], factor[g]);
#pragma unroll 8
            for (int seen = from; seen < end; seen++) {
                const float value = __half2float(values[seen * stride + dim]);
#pragma unroll
                for (int g = 0; g < GROUP; g++)
                    if (g < here) sums[d][g] = __fmaf_rn(scores[g][seen - begin], value, sums[d][g]);
            }
        }
    }
    __syncthreads();
    for (int g = 0; g < here; g++) {
        const size_t to = ((size_t)row * heads + first_head + g) * gridDim.y + blockIdx.y;
        if (threadIdx.x == 0) weights[to] = make_float2(most[g], total[g]);
    }
#pragma unroll
    for (int d = 0; d < MOST_HEAD / THREADS; d++) {
        const int dim = threadIdx.x + d * THREADS;
        if (dim >= head) break;
#pragma unroll
        for (int g = 0; g < GROUP; g++)
            if (g < here) partial[(((size_t)row * heads + first_head + g) * gridDim.y + blockIdx.y) * head + dim] = sums[d][g];
    }
}

// Puts the parts of `attend` together, in the order of their chunks, and rounds the result to eight bits unless `numbers` is null.
//
// grid: (heads, rows); block: `head` rounded up to whole warps
extern "C" __global__ void combine(const float *partial, const float2 *weights, float *out, int8_t *numbers, float *scales, int head,
                                   int parts) {
    const size_t which = (size_t)blockIdx.y * gridDim.x + blockIdx.x;
    const float2 *weight = weights + which * parts;
    float most = -INFINITY;
    for (int part = 0; part < parts; part++)
        if (weight[part].y > 0.0f) most = fmaxf(most, weight[part].x);
    const int dim = threadIdx.x;
    float total = 0.0f, sum = 0.0f;
    for (int part = 0; part < parts; part++) {
        const float2 of = weight[part];
        if (of.y <= 0.0f) continue;
        const float factor = expf(__fsub_rn(of.x, most));
        total = __fmaf_rn(of.y, factor, total);
        if (dim < head) sum = __fmaf_rn(partial[(which * parts + part) * head + dim], factor, sum);
    }
    if (dim >= head) return;
    const float value = __fdiv_rn(sum, total);
    out[which * head + dim] = value;
    // Where it is rounded, a head is a multiple of 32 wide.
    if (numbers) quantise(value, which * head + dim, numbers, scales);
}
