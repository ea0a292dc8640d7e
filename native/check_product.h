/* The self test of products. */
#ifndef MYNAH_CHECK_PRODUCT_H
#define MYNAH_CHECK_PRODUCT_H

#include "check.h"

/* Sizes of a product, and the rows of its input with padding. */
typedef struct {
    int64_t frames, branches, width, block, taps, columns, pad, blocks, rows, y_stride, y_pad, y_rows;
} sizes;

static sizes random_sizes(int quantised) {
    sizes z = {.frames = random_between(1, 30), .branches = random_between(1, 2)};
    z.width = 4 * random_between(1, 40), z.block = z.width;
    if (quantised && random_bits() & 1) z.block = 4 * random_between(1, z.width / 4);
    z.taps = random_between(1, 3), z.pad = z.taps - 1 + random_between(0, 1);
    z.columns = 16 * random_between(1, 12), z.y_stride = z.columns + random_between(0, 5);
    z.blocks = (z.width + z.block - 1) / z.block;
    z.rows = z.branches * (z.frames + z.pad);
    z.y_pad = random_between(0, 2), z.y_rows = z.branches * (z.frames + z.y_pad);
    return z;
}

static product_step product_of(sizes z, int64_t kind, const float *bias, const float *addend, float *y) {
    return (product_step){.kind = kind, .bias = bias, .y = y, .y_stride = z.y_stride, .y_pad = z.y_pad,
        .addend = addend, .addend_stride = z.columns, .width = z.width, .block = z.block,
        .taps = z.taps, .columns = z.columns, .x_pad = z.pad, .x_stride = z.width};
}

static void check_product(void) {
    sizes z = random_sizes(1);
    int64_t inner = z.taps * z.width, tiles = (z.columns + TILE - 1) / TILE, per_tap = 0;
    for (int64_t b = 0; b < z.width; b += z.block)
        per_tap += ((z.width - b < z.block ? z.width - b : z.block) + 3) / 4;
    int8_t *x = malloc(z.rows * z.width), *w = malloc(z.columns * inner);
    for (int64_t i = 0; i < z.rows * z.width; i++) x[i] = (int8_t)random_between(-127, 127);
    for (int64_t i = 0; i < z.columns * inner; i++) w[i] = (int8_t)random_between(-128, 127);
    float *scales = random_floats(z.rows * z.blocks), *bias = random_floats(tiles * TILE);
    float *addend = random_floats(z.frames * z.branches * z.columns);
    float *y = calloc(z.y_rows * z.y_stride, sizeof *y);
    int32_t *totals = calloc(z.rows * z.blocks, sizeof *totals);
    for (int64_t r = 0; r < z.rows; r++)
        for (int64_t i = 0; i < z.width; i++)
            totals[r * z.blocks + i / z.block] += x[r * z.width + i];
    uint8_t *packed = calloc(tiles * z.taps * per_tap * TILE, 4);
    int64_t tile_scales = tiles * z.taps * z.blocks * TILE;
    float *whole = random_floats(tile_scales); /* where a tap has one block; else there are halves */
    uint16_t *halves = z.blocks > 1 ? random_halves(tile_scales) : NULL;
    int64_t at = 0;
    for (int64_t tap = 0; tap < z.taps; tap++)
        for (int64_t b = 0; b < z.width; b += z.block) {
            int64_t size = z.width - b < z.block ? z.width - b : z.block;
            mynah_pack_bytes((uint8_t *)w + tap * z.width + b, z.columns, size, inner, 1, 1,
                             z.taps * per_tap, at, packed);
            at += (size + 3) / 4;
        }
    product_step s = product_of(z, STEP_PRODUCT, bias, addend, y);
    s.x = x, s.scales = scales, s.totals = totals, s.tiles = packed;
    s.tile_scales = halves ? (void *)halves : whole, s.unit = halves ? 0.25 : 1.0;
    float *gate = random_floats(z.columns + 3);
    if (random_bits() & 1) s.gate_slot = SLOT_FIRST, s.gate_offset = 3;
    int64_t slots[] = {z.frames, z.branches, (int64_t)(intptr_t)gate};
    RUN(s, slots);
    for (int64_t r = 0; r < z.frames * z.branches; r++)
        for (int64_t n = 0; n < z.columns; n++) {
            double sum = bias[n], size = 1.0;
            for (int64_t tap = 0; tap < z.taps; tap++)
                for (int64_t i = 0; i < z.width; i++) {
                    int64_t row = padded_row(r, z.frames, z.pad) - (z.taps - 1) + tap;
                    int64_t block = tap * z.blocks + i / z.block;
                    int64_t place = (n / TILE * z.taps * z.blocks + block) * TILE + n % TILE;
                    double factor = (double)scales[row * z.blocks + i / z.block] *
                        (halves ? 0.25 * half_value(halves[place]) : whole[place]);
                    double part = factor * x[row * z.width + i] * w[n * inner + tap * z.width + i];
                    sum += part, size += fabs(part);
                }
            sum = sum * (s.gate_slot ? gate[3 + n] : 1.0f) + addend[r * z.columns + n];
            expect("product", y[padded_row(r, z.frames, z.y_pad) * z.y_stride + n], sum, 1e-6 * size);
        }
    free(x), free(w), free(scales), free(bias), free(addend), free(y), free(totals), free(packed);
    free(whole), free(halves), free(gate);
}

/* Every number in half precision, as the scale of a column. */
static void check_halves(void) {
    enum { ALL = 1 << 16, INFINITE = 0x7c00 };
    const int8_t x[8] = {1};
    const float scales[2] = {1.0f, 1.0f};
    const int32_t totals[2] = {1, 0};
    uint8_t *codes = calloc(ALL, 8), *packed = calloc(ALL, 8);
    uint16_t *halves = calloc(2 * ALL, sizeof *halves); /* of the second block: zero */
    float *y = calloc(ALL, sizeof *y);
    for (int64_t n = 0; n < ALL; n++) {
        codes[8 * n] = 1;
        halves[n / TILE * 2 * TILE + n % TILE] = (uint16_t)((n & INFINITE) == INFINITE ? 0 : n);
    }
    mynah_pack_bytes(codes, ALL, 8, 8, 1, 1, 2, 0, packed);
    product_step s = {.kind = STEP_PRODUCT, .x = x, .scales = scales, .totals = totals,
        .tiles = packed, .tile_scales = halves, .y = y, .y_stride = ALL, .width = 8, .block = 4,
        .taps = 1, .columns = ALL, .x_stride = 8, .unit = 1.0};
    const int64_t slots[] = {1, 1};
    RUN(s, slots);
    for (int64_t n = 0; n < ALL; n++)
        expect("half", y[n], half_value(halves[n / TILE * 2 * TILE + n % TILE]), 0.0);
    free(codes), free(packed), free(halves), free(y);
}

static void check_exact(void) {
    sizes z = random_sizes(0);
    int64_t inner = z.taps * z.width, tiles = (z.columns + TILE - 1) / TILE;
    float *x = random_floats(z.rows * z.width), *w = random_floats(z.columns * inner);
    float *packed = calloc(tiles * inner * TILE, sizeof *packed), *bias = random_floats(tiles * TILE);
    float *y = calloc(z.y_rows * z.y_stride, sizeof *y);
    mynah_pack_floats(w, z.columns, inner, inner, 1, inner, 0, packed);
    product_step s = product_of(z, STEP_EXACT, bias, NULL, y);
    s.x = x, s.tiles = packed;
    int64_t slots[] = {z.frames, z.branches};
    RUN(s, slots);
    for (int64_t r = 0; r < z.frames * z.branches; r++)
        for (int64_t n = 0; n < z.columns; n++) {
            double sum = bias[n];
            const float *row = x + (padded_row(r, z.frames, z.pad) - (z.taps - 1)) * z.width;
            for (int64_t i = 0; i < inner; i++) sum += (double)row[i] * w[n * inner + i];
            expect("exact product", y[padded_row(r, z.frames, z.y_pad) * z.y_stride + n], sum, 1e-4);
        }
    free(x), free(w), free(packed), free(bias), free(y);
}

#endif
