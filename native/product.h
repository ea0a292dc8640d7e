/* Tiles of products: a few rows times the 64 columns of a packed tile.
 *
 * A tile in eight bits lies as [step of four inner elements][column][element]: one dot4 for every
 * vector of columns. One in float32, or in half precision, lies as [inner element][column].
 */
#ifndef MYNAH_PRODUCT_H
#define MYNAH_PRODUCT_H

#include "mynah.h"
#include "vector.h"

#define VECTORS (TILE / LANES)
#define CACHE_LINE 64
/* Bytes; measured: one row takes 5 % less time with it, by AVX2 one or four rows 25 % less; four rows by
 * AVX-512 take 5 % more. */
#define AHEAD 4096
#define BLOCKS_AHEAD 2 /* of their scales; measured: one row takes 1 % less time with it */

/* Sums of `steps` * 4 products of bytes, which begin at `start`: a few rows times WIDE vectors of
 * columns. */
INLINE void byte_sums(int rows, const uint8_t *const *row, const uint8_t *column, int64_t steps,
                      const int32_t *start, vi (*sum)[WIDE]) {
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < WIDE; v++) sum[r][v] = vi_all(start[r]);
    for (int64_t k = 0; k < steps; k++, column += TILE * 4) {
        vi weight[WIDE];
#pragma GCC unroll 8
        for (int v = 0; v < WIDE; v++) weight[v] = vi_load(column + v * LANES * 4);
        if (rows == 1 || LANES < 16) /* the matrix comes from memory, and is needed once */
#pragma GCC unroll 8
            for (int byte = 0; byte < WIDE * LANES * 4; byte += CACHE_LINE)
                __builtin_prefetch(column + AHEAD + byte, 0, 2);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, row[r] + 4 * k, 4);
            vi all = vi_all(four);
#pragma GCC unroll 8
            for (int v = 0; v < WIDE; v++) sum[r][v] = dot4(sum[r][v], weight[v], all);
        }
    }
}

/* A block of elements that share scales, to results[rows][TILE]: the sums of `steps` * 4 products,
 * which begin at `start`, times the scale of the row and those of the columns, floats or halves. */
INLINE void block_tile_rows(int rows, const uint8_t *const *row, const uint8_t *tile, int64_t steps,
                            const int32_t *start, const float *scale, const void *columns,
                            int halves, float (*results)[TILE]) {
    for (int first = 0; first < VECTORS; first += WIDE) {
        vi sum[GROUP][WIDE];
        const uint16_t *half = (const uint16_t *)columns + first * LANES;
        const float *whole = (const float *)columns + first * LANES;
        if (halves && (rows == 1 || LANES < 16))
            for (int n = 0; n < WIDE * LANES; n += CACHE_LINE / 2)
                __builtin_prefetch(half + BLOCKS_AHEAD * TILE + n, 0, 3);
        byte_sums(rows, row, tile + first * LANES * 4, steps, start, sum);
#pragma GCC unroll 8
        for (int v = 0; v < WIDE; v++) {
            vf column = halves ? vf_halves(half + v * LANES) : vf_load(whole + v * LANES);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                float *result = &results[r][(first + v) * LANES];
                vf factor = vf_mul(vf_all(scale[r]), column);
                vf_store(result, vf_fma(vi_float(sum[r][v]), factor, vf_load(result)));
            }
        }
    }
}

/* What becomes of the sums of a tile: (sum + bias) * gate + addend, `width` columns of it. */
typedef struct {
    int64_t width;
    const float *bias, *gate;   /* (width,), or NULL */
    const float *addend[GROUP]; /* of every row, or NULL */
    float *y[GROUP];
} tile_end;

/* Where all elements share a scale, the sums go on from the registers that they are in. */
INLINE void only_tile_rows(int rows, const uint8_t *const *row, const uint8_t *tile, int64_t steps,
                           const int32_t *start, const float *scale, const float *columns,
                           const tile_end *end) {
    for (int first = 0; first < VECTORS; first += WIDE) {
        vi sum[GROUP][WIDE];
        byte_sums(rows, row, tile + first * LANES * 4, steps, start, sum);
#pragma GCC unroll 8
        for (int v = 0; v < WIDE; v++) {
            int64_t at = (first + v) * LANES;
            if (at >= end->width) break;
            vf column = vf_load(columns + at), none = vf_all(0.0f);
            vf bias = end->bias ? vf_load(end->bias + at) : none;
            vf gate = end->gate ? vf_load(end->gate + at) : vf_all(1.0f);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                vf result = vf_mul(vi_float(sum[r][v]), vf_mul(vf_all(scale[r]), column));
                result = vf_mul(vf_add(result, bias), gate);
                if (end->addend[0]) result = vf_add(result, vf_load(end->addend[r] + at));
                vf_store(end->y[r] + at, result);
            }
        }
    }
}

/* The same in float32: `steps` inner elements. The tile is in float32, or in half precision. */
INLINE void float_tile_rows(int rows, const float *const *row, const void *tile, int halves,
                            int64_t steps, float (*sums)[TILE]) {
    for (int first = 0; first < VECTORS; first += WIDE) {
        vf sum[GROUP][WIDE];
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
            for (int v = 0; v < WIDE; v++) sum[r][v] = vf_load(&sums[r][(first + v) * LANES]);
        const float *column = (const float *)tile + first * LANES;
        const uint16_t *half = (const uint16_t *)tile + first * LANES;
        for (int64_t k = 0; k < steps; k++, column += TILE, half += TILE) {
            vf weight[WIDE];
#pragma GCC unroll 8
            for (int v = 0; v < WIDE; v++)
                weight[v] = halves ? vf_halves(half + v * LANES) : vf_load(column + v * LANES);
#pragma GCC unroll 8
            for (int r = 0; r < rows; r++) {
                vf all = vf_all(row[r][k]);
#pragma GCC unroll 8
                for (int v = 0; v < WIDE; v++) sum[r][v] = vf_fma(weight[v], all, sum[r][v]);
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
            for (int v = 0; v < WIDE; v++) vf_store(&sums[r][(first + v) * LANES], sum[r][v]);
    }
}

/* A copy of the loops for every number of rows, so that the sums stay in registers. */
#define BY_ROWS(rows, call)                                                                        \
    switch (rows) {                                                                                \
    case 1: { enum { ROWS = 1 }; call; } break;                                                    \
    case 2: { enum { ROWS = 2 }; call; } break;                                                    \
    case 3: { enum { ROWS = GROUP < 3 ? GROUP : 3 }; call; } break;                                \
    case 4: { enum { ROWS = GROUP < 4 ? GROUP : 4 }; call; } break;                                \
    case 5: { enum { ROWS = GROUP < 5 ? GROUP : 5 }; call; } break;                                \
    default: { enum { ROWS = GROUP }; call; } break;                                               \
    }

/* Inlined into the loops around them, their sums would not all stay in registers. */
#define APART static __attribute__((noinline))

APART void block_tile(int rows, const uint8_t *const *row, const uint8_t *tile, int64_t steps,
                              const int32_t *start, const float *scale, const void *columns,
                              int halves, float (*results)[TILE]) {
    BY_ROWS(rows, block_tile_rows(ROWS, row, tile, steps, start, scale, columns, halves, results))
}

APART void only_tile(int rows, const uint8_t *const *row, const uint8_t *tile, int64_t steps,
                             const int32_t *start, const float *scale, const float *columns,
                             const tile_end *end) {
    BY_ROWS(rows, only_tile_rows(ROWS, row, tile, steps, start, scale, columns, end))
}

APART void float_tile(int rows, const float *const *row, const float *tile, int64_t steps,
                              float (*sums)[TILE]) {
    BY_ROWS(rows, float_tile_rows(ROWS, row, tile, 0, steps, sums))
}

APART void half_tile(int rows, const float *const *row, const uint16_t *tile, int64_t steps,
                     float (*sums)[TILE]) {
    BY_ROWS(rows, float_tile_rows(ROWS, row, tile, 1, steps, sums))
}

/* One row of `width` floats to signed bytes with one scale; `width` is a multiple of 16, `room`
 * bytes behind it up to a multiple of four are set to zero by the caller. Returns the scale; the sum
 * of the bytes goes to `total`. */
static inline float quantise(const float *x, int64_t width, int8_t *bytes, int32_t *total) {
    vf peak = vf_all(0.0f);
    for (int64_t i = 0; i < width; i += LANES) peak = vf_max(peak, vf_abs(vf_load(x + i)));
    float largest = vf_peak(peak), scale = largest > 1e-30f ? largest / 127.0f : 1e-30f;
    vf up = vf_all(1.0f / scale);
    vi sum = vi_all(0);
    for (int64_t i = 0; i < width; i += LANES) {
        vi code = vf_round(vf_mul(vf_load(x + i), up));
        sum = vi_add(sum, code);
        vi_store_bytes(bytes + i, code);
    }
    *total = vi_sum(sum);
    return scale;
}

#endif
