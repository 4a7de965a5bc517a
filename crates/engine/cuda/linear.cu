// Products of a matrix, quantised or not, with 1 to 8 rows of activations. The weights lie as in their file (the formats of GGUF, see
// ggml-common.h of ggml for their fields) and are read once for all rows; each number of a result belongs to one warp, or to two or four
// where a matrix has few rows.
//
// Quantised weights meet activations of eight bits (`quantise`), 32 of which have a scale. Every format is cut into units, one for a
// lane at a time: two runs of weights, of which each has a factor and an addend, weight = factor * number + addend. So a run's part of a
// product is scale * (factor * sum(number * x) + addend * sum(x)) with both sums in whole numbers. A unit is as large as the format's
// blocks can be read in one go: where only two bytes are aligned, lanes that are neighbours share a block, so that what a warp reads at
// once lies close together.

#include "common.cuh"

// WORDS in a run, of four numbers each, in the order of the activations.
template <int WORDS>
struct Unit {
    int first[WORDS], second[WORDS];
    float first_factor, second_factor, first_addend, second_addend;
    // Where the runs' activations begin in the row.
    int first_at, second_at;
};

// Four bytes of which only two are aligned.
__device__ __forceinline__ int word(const uint8_t *bytes) {
    const uint16_t *halves = (const uint16_t *)bytes;
    return (int)(halves[0] | (uint32_t)halves[1] << 16);
}

__device__ __forceinline__ float half_at(const uint8_t *bytes) { return __half2float(*(const __half *)bytes); }

// Four bits to the fifth bit of four bytes.
__device__ __forceinline__ int fifth(uint32_t bits) {
    return (int)((bits & 1) << 4 | (bits & 2) << 11 | (bits & 4) << 18 | (bits & 8) << 25);
}

// Two lanes to a block of 32: each has eight bytes, with eight weights in the lower halves and those 16 further in the upper ones.
__device__ __forceinline__ void in_block(Unit<2> &unit, int index, float factor, float addend) {
    unit.first_factor = unit.second_factor = factor;
    unit.first_addend = unit.second_addend = addend;
    unit.first_at = index / 2 * 32 + index % 2 * 8;
    unit.second_at = unit.first_at + 16;
}

struct Q4_0 {
    static constexpr bool ADDEND = true;
    static constexpr int WORDS = 2;
    __device__ static __forceinline__ void load(const uint8_t *row, int index, Unit<WORDS> &unit) {
        const uint8_t *block = row + (size_t)(index / 2) * 18;
        const float factor = half_at(block);
        in_block(unit, index, factor, -8.0f * factor);
#pragma unroll
        for (int k = 0; k < WORDS; k++) {
            const int both = word(block + 2 + index % 2 * 8 + 4 * k);
            unit.first[k] = both & 0x0f0f0f0f;
            unit.second[k] = both >> 4 & 0x0f0f0f0f;
        }
    }
};

struct Q4_1 {
    static constexpr bool ADDEND = true;
    static constexpr int WORDS = 2;
    __device__ static __forceinline__ void load(const uint8_t *row, int index, Unit<WORDS> &unit) {
        const uint8_t *block = row + (size_t)(index / 2) * 20;
        in_block(unit, index, half_at(block), half_at(block + 2));
#pragma unroll
        for (int k = 0; k < WORDS; k++) {
            const int both = ((const int *)(block + 4))[index % 2 * 2 + k];
            unit.first[k] = both & 0x0f0f0f0f;
            unit.second[k] = both >> 4 & 0x0f0f0f0f;
        }
    }
};

__device__ __forceinline__ void five_bits(Unit<2> &unit, int index, uint32_t high, const uint8_t *low) {
#pragma unroll
    for (int k = 0; k < 2; k++) {
        const int at = index % 2 * 8 + 4 * k;
        const int both = word(low + at);
        unit.first[k] = (both & 0x0f0f0f0f) | fifth(high >> at);
        unit.second[k] = (both >> 4 & 0x0f0f0f0f) | fifth(high >> (16 + at));
    }
}

struct Q5_0 {
    static constexpr bool ADDEND = true;
    static constexpr int WORDS = 2;
    __device__ static __forceinline__ void load(const uint8_t *row, int index, Unit<WORDS> &unit) {
        const uint8_t *block = row + (size_t)(index / 2) * 22;
        const float factor = half_at(block);
        in_block(unit, index, factor, -16.0f * factor);
        five_bits(unit, index, (uint32_t)word(block + 2), block + 6);
    }
};

struct Q5_1 {
    static constexpr bool ADDEND = true;
    static constexpr int WORDS = 2;
    __device__ static __forceinline__ void load(const uint8_t *row, int index, Unit<WORDS> &unit) {
        const uint8_t *block = row + (size_t)(index / 2) * 24;
        in_block(unit, index, half_at(block), half_at(block + 2));
        five_bits(unit, index, (uint32_t)word(block + 4), block + 8);
    }
};

// Four lanes to a block of 32: each has eight bytes.
struct Q8_0 {
    static constexpr bool ADDEND = false;
    static constexpr int WORDS = 1;
    __device__ static __forceinline__ void load(const uint8_t *row, int index, Unit<WORDS> &unit) {
        const uint8_t *block = row + (size_t)(index / 4) * 34;
        unit.first_factor = unit.second_factor = half_at(block);
        unit.first_addend = unit.second_addend = 0.0f;
        unit.first_at = index * 8;
        unit.second_at = unit.first_at + 4;
        unit.first[0] = word(block + 2 + index % 4 * 8);
        unit.second[0] = word(block + 6 + index % 4 * 8);
    }
};

// Factors and addends of the sub-blocks `2 * pair` and `2 * pair + 1` of Q4_K and Q5_K: six bits for each of eight scales and eight
// minima, in twelve bytes behind the two common factors.
__device__ __forceinline__ void six_bits(Unit<4> &unit, uint4 header, int pair) {
    const float2 common = __half22float2(*(const __half2 *)&header.x);
    const int shift = 16 * (pair & 1);
    const uint32_t low = header.y >> shift, middle = header.z >> shift, high = header.w >> shift;
    const uint32_t scales = pair < 2 ? low & 0x3f3f : (high & 0x0f0f) | (low & 0xc0c0) >> 2;
    const uint32_t minima = pair < 2 ? middle & 0x3f3f : (high >> 4 & 0x0f0f) | (middle & 0xc0c0) >> 2;
    unit.first_factor = __fmul_rn(common.x, (float)(scales & 0xff));
    unit.second_factor = __fmul_rn(common.x, (float)(scales >> 8 & 0xff));
    unit.first_addend = -__fmul_rn(common.y, (float)(minima & 0xff));
    unit.second_addend = -__fmul_rn(common.y, (float)(minima >> 8 & 0xff));
}

// Eight lanes to a block of 256: each has 16 bytes, with weights of one sub-block in the lower halves and of the next in the upper ones.
__device__ __forceinline__ void in_super_block(Unit<4> &unit, int index, int pair, int part) {
    unit.first_at = index / 8 * 256 + pair * 64 + part * 16;
    unit.second_at = unit.first_at + 32;
}

struct Q4_K {
    static constexpr bool ADDEND = true;
    static constexpr int WORDS = 4;
    __device__ static __forceinline__ void load(const uint8_t *row, int index, Unit<WORDS> &unit) {
        const uint4 *block = (const uint4 *)(row + (size_t)(index / 8) * 144);
        const int pair = index % 8 / 2, part = index % 2;
        const uint4 header = block[0], both = block[1 + 2 * pair + part];
        six_bits(unit, header, pair);
        in_super_block(unit, index, pair, part);
        const uint32_t words[4] = {both.x, both.y, both.z, both.w};
#pragma unroll
        for (int k = 0; k < WORDS; k++) {
            unit.first[k] = (int)(words[k] & 0x0f0f0f0f);
            unit.second[k] = (int)(words[k] >> 4 & 0x0f0f0f0f);
        }
    }
};

struct Q5_K {
    static constexpr bool ADDEND = true;
    static constexpr int WORDS = 4;
    __device__ static __forceinline__ void load(const uint8_t *row, int index, Unit<WORDS> &unit) {
        const uint4 *block = (const uint4 *)(row + (size_t)(index / 8) * 176);
        const int pair = index % 8 / 2, part = index % 2;
        const uint4 header = block[0], fifths = block[1 + part], both = block[3 + 2 * pair + part];
        six_bits(unit, header, pair);
        in_super_block(unit, index, pair, part);
        const uint32_t words[4] = {both.x, both.y, both.z, both.w};
        const uint32_t high[4] = {fifths.x, fifths.y, fifths.z, fifths.w};
#pragma unroll
        for (int k = 0; k < WORDS; k++) {
            unit.first[k] = (int)((words[k] & 0x0f0f0f0f) | (high[k] >> (2 * pair) & 0x01010101) << 4);
            unit.second[k] = (int)((words[k] >> 4 & 0x0f0f0f0f) | (high[k] >> (2 * pair + 1) & 0x01010101) << 4);
        }
    }
};

// 32 lanes to a block of 256: each has four bytes with the lower halves of four weights and of those 64 further.
struct Q6_K {
    static constexpr bool ADDEND = true;
    static constexpr int WORDS = 1;
    __device__ static __forceinline__ void load(const uint8_t *row, int index, Unit<WORDS> &unit) {
        const uint8_t *block = row + (size_t)(index / 32) * 210;
        // Which 128 of the 256 weights, which 32 of these (and those 64 further), which four of them.
        const int side = index % 32 / 16, pair = index % 16 / 8, four = index % 8;
        const int8_t *scales = (const int8_t *)(block + 192) + 8 * side + 2 * pair + four / 4;
        const float common = half_at(block + 208);
        unit.first_factor = __fmul_rn(common, (float)scales[0]);
        unit.second_factor = __fmul_rn(common, (float)scales[4]);
        unit.first_addend = -32.0f * unit.first_factor;
        unit.second_addend = -32.0f * unit.second_factor;
        unit.first_at = index / 32 * 256 + 128 * side + 32 * pair + 4 * four;
        unit.second_at = unit.first_at + 64;
        const uint32_t both = (uint32_t)word(block + 64 * side + 32 * pair + 4 * four);
        const uint32_t two = (uint32_t)word(block + 128 + 32 * side + 4 * four) >> (2 * pair);
        unit.first[0] = (int)((both & 0x0f0f0f0f) | (two & 0x03030303) << 4);
        unit.second[0] = (int)((both >> 4 & 0x0f0f0f0f) | (two >> 4 & 0x03030303) << 4);
    }
};

// The activations of a run.
__device__ __forceinline__ void read(const int8_t *x, int (&to)[1]) { to[0] = *(const int *)x; }
__device__ __forceinline__ void read(const int8_t *x, int (&to)[2]) {
    const int2 words = *(const int2 *)x;
    to[0] = words.x, to[1] = words.y;
}
__device__ __forceinline__ void read(const int8_t *x, int (&to)[4]) {
    const int4 words = *(const int4 *)x;
    to[0] = words.x, to[1] = words.y, to[2] = words.z, to[3] = words.w;
}

// A run's part of one number of the result.
template <bool ADDEND, int WORDS>
__device__ __forceinline__ float run(const int (&numbers)[WORDS], const int8_t *at, float factor, float addend) {
    int x[WORDS];
    read(at, x);
    int sum = 0, all = 0;
#pragma unroll
    for (int k = 0; k < WORDS; k++) {
        sum = __dp4a(numbers[k], x[k], sum);
        if (ADDEND) all = __dp4a(0x01010101, x[k], all);
    }
    const float part = __fmul_rn(factor, (float)sum);
    return ADDEND ? __fmaf_rn(addend, (float)all, part) : part;
}

// Where the sums of a block's warps become numbers of the result. `split` warps have a part of each.
template <int ROWS>
__device__ __forceinline__ void finish(float (&sums)[ROWS], int rows, int output, int outputs, const float *bias, float *out,
                                       int64_t stride, int split, int onto) {
    __shared__ float parts[ROWS][4];
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        sums[r] = warp_sum(sums[r]);
        if (lane == 0) parts[r][warp] = sums[r];
    }
    if (split > 1) __syncthreads();
    if (warp % split != 0 || lane != 0 || output >= outputs) return;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        if (r >= rows) break;
        float sum = parts[r][warp];
        for (int other = 1; other < split; other++) sum = __fadd_rn(sum, parts[r][warp + other]);
        if (bias) sum = __fadd_rn(sum, bias[output]);
        float *to = out + r * stride + output;
        *to = onto ? __fadd_rn(*to, sum) : sum;
    }
}

// out[r, o] (+)= sum over i of weights[o, i] * x[r, i] + bias[o], where rows of `out` are `stride` apart.
//
// grid: outputs * split / 4, rounded up; block: 128
template <class Format, int ROWS>
__device__ __forceinline__ void quantised(const uint8_t *weights, int64_t row_bytes, const int8_t *numbers, const float *scales,
                                          const float *bias, float *out, int rows, int width, int outputs, int64_t stride, int split,
                                          int onto) {
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const int output = blockIdx.x * (4 / split) + warp / split;
    const int units = width / (8 * Format::WORDS);
    float sums[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) sums[r] = 0.0f;
    if (output < outputs) {
        const uint8_t *row = weights + output * row_bytes;
#pragma unroll 4 / Format::WORDS + 1
        for (int index = lane + LANES * (warp % split); index < units; index += LANES * split) {
            Unit<Format::WORDS> unit;
            Format::load(row, index, unit);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                // Rows beyond the last one repeat it, and are thrown away.
                const int from = r < rows ? r : rows - 1;
                const int8_t *x = numbers + (size_t)from * width;
                const float *scale = scales + (size_t)from * (width / 32);
                const float a = run<Format::ADDEND>(unit.first, x + unit.first_at, unit.first_factor, unit.first_addend);
                const float b = run<Format::ADDEND>(unit.second, x + unit.second_at, unit.second_factor, unit.second_addend);
                sums[r] = __fmaf_rn(scale[unit.first_at / 32], a, sums[r]);
                sums[r] = __fmaf_rn(scale[unit.second_at / 32], b, sums[r]);
            }
        }
    }
    finish<ROWS>(sums, rows, output, outputs, bias, out, stride, split, onto);
}

#define QUANTISED(format, rows_at_most)                                                                                              \
    extern "C" __global__ void __launch_bounds__(128)                                                                                \
        product_##format##_##rows_at_most(const uint8_t *weights, int64_t row_bytes, const int8_t *numbers, const float *scales,      \
                                          const float *bias, float *out, int rows, int width, int outputs, int64_t stride, int split, \
                                          int onto) {                                                                                \
        quantised<format, rows_at_most>(weights, row_bytes, numbers, scales, bias, out, rows, width, outputs, stride, split, onto);   \
    }
#define QUANTISED_ALL(format) QUANTISED(format, 1) QUANTISED(format, 2) QUANTISED(format, 4) QUANTISED(format, 8)

QUANTISED_ALL(Q4_0)
QUANTISED_ALL(Q4_1)
QUANTISED_ALL(Q5_0)
QUANTISED_ALL(Q5_1)
QUANTISED_ALL(Q8_0)
QUANTISED_ALL(Q4_K)
QUANTISED_ALL(Q5_K)
QUANTISED_ALL(Q6_K)

__device__ __forceinline__ void eight(const __half *from, float (&to)[8]) {
    const uint4 words = *(const uint4 *)from;
    const __half2 *pairs = (const __half2 *)&words;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const float2 two = __half22float2(pairs[k]);
        to[2 * k] = two.x;
        to[2 * k + 1] = two.y;
    }
}

__device__ __forceinline__ void eight(const __nv_bfloat16 *from, float (&to)[8]) {
    const uint4 words = *(const uint4 *)from;
    const uint32_t pairs[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int k = 0; k < 4; k++) {
        // A bf16 is the upper half of a float.
        to[2 * k] = __uint_as_float(pairs[k] << 16);
        to[2 * k + 1] = __uint_as_float(pairs[k] & 0xffff0000u);
    }
}

__device__ __forceinline__ void eight(const float *from, float (&to)[8]) {
    const float4 low = ((const float4 *)from)[0], high = ((const float4 *)from)[1];
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

// The same with weights that are not quantised and activations as they are; `width` is a multiple of 8.
template <class Number, int ROWS>
__device__ __forceinline__ void plain(const Number *weights, const float *x, const float *bias, float *out, int rows, int width,
                                      int outputs, int64_t stride, int split, int onto) {
    const int warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const int output = blockIdx.x * (4 / split) + warp / split;
    float sums[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) sums[r] = 0.0f;
    if (output < outputs) {
        const Number *row = weights + (size_t)output * width;
#pragma unroll 2
        for (int i = 8 * (lane + LANES * (warp % split)); i < width; i += 8 * LANES * split) {
            float w[8];
            eight(row + i, w);
#pragma unroll
            for (int r = 0; r < ROWS; r++) {
                float a[8];
                eight(x + (size_t)(r < rows ? r : rows - 1) * width + i, a);
#pragma unroll
                for (int k = 0; k < 8; k++) sums[r] = __fmaf_rn(w[k], a[k], sums[r]);
            }
        }
    }
    finish<ROWS>(sums, rows, output, outputs, bias, out, stride, split, onto);
}

#define PLAIN(name, number, rows_at_most)                                                                                        \
    extern "C" __global__ void __launch_bounds__(128)                                                                            \
        product_##name##_##rows_at_most(const number *weights, const float *x, const float *bias, float *out, int rows, int width, \
                                        int outputs, int64_t stride, int split, int onto) {                                      \
        plain<number, rows_at_most>(weights, x, bias, out, rows, width, outputs, stride, split, onto);                            \
    }
#define PLAIN_ALL(name, number) PLAIN(name, number, 1) PLAIN(name, number, 2) PLAIN(name, number, 4) PLAIN(name, number, 8)

PLAIN_ALL(F16, __half)
PLAIN_ALL(BF16, __nv_bfloat16)
PLAIN_ALL(F32, float)
