/* The self test of convolutions over rows of any number. */
#ifndef MYNAH_CHECK_CONVOLVE_H
#define MYNAH_CHECK_CONVOLVE_H

#include "check.h"

/* Slots of these steps, and where a buffer begins behind what must not be touched. */
enum { AT_ROWS, AT_X, AT_Y, AT_ADDEND, OFFSET = 16 };

static double convolved(double sum, int64_t act, double slope) {
    if (act == CONVOLVE_LEAKY) return sum < 0.0 ? slope * sum : sum;
    if (act == CONVOLVE_ELU) return sum < 0.0 ? expm1(sum) : sum;
    return sum;
}

/* Rows of x that lie closer together than they are long. */
static void check_convolve(void) {
    int64_t rows = random_between(1, 130), columns = 16 * random_between(1, 9), tiles = (columns + 63) / TILE;
    int64_t width = random_between(1, 150), stride = random_between(1, width), act = random_between(0, 2);
    int64_t y_stride = columns + random_between(0, 20), addend_stride = columns + random_between(0, 20);
    float *x = random_floats(OFFSET + (rows - 1) * stride + width), *w = random_floats(columns * width);
    float *bias = random_floats(tiles * TILE), *addend = random_floats(OFFSET + rows * addend_stride);
    float *packed = calloc(tiles * width * TILE, sizeof *packed);
    float *y = calloc(OFFSET + rows * y_stride, sizeof *y);
    mynah_pack_floats(w, columns, width, width, 1, width, 0, packed);
    convolve_step s = {.kind = STEP_CONVOLVE, .x = x, .x_stride = stride, .x_slot = AT_X,
        .rows_slot = AT_ROWS, .width = width, .groups = 1, .columns = columns, .tiles = packed,
        .bias = random_bits() & 1 ? bias : NULL, .act = act, .slope = 0.25,
        .addend = random_bits() & 1 ? addend : NULL, .addend_stride = addend_stride,
        .addend_slot = AT_ADDEND, .y = y, .y_stride = y_stride, .y_slot = AT_Y};
    int64_t slots[] = {rows, OFFSET, OFFSET, OFFSET};
    RUN(s, slots);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t n = 0; n < columns; n++) {
            double sum = s.bias ? bias[n] : 0.0;
            for (int64_t i = 0; i < width; i++)
                sum += (double)x[OFFSET + r * stride + i] * w[n * width + i];
            sum = convolved(sum, act, 0.25);
            if (s.addend) sum += addend[OFFSET + r * addend_stride + n];
            expect("convolution", y[OFFSET + r * y_stride + n], sum, 1e-4);
        }
    for (int64_t i = 0; i < OFFSET; i++) expect("before a convolution", y[i], 0.0, 0.0);
    free(x), free(w), free(bias), free(addend), free(packed), free(y);
}

/* Tiles of a kernel (columns, taps, width), which STEP_FOLD folds. */
static float *pack_taps(const float *w, int64_t columns, int64_t groups, int64_t width) {
    int64_t inner = groups * width * OUTPUTS, tiles = (columns + TILE - 1) / TILE;
    float *packed = calloc(tiles * inner * TILE, sizeof *packed);
    for (int64_t n = 0; n < columns; n++)
        for (int64_t tap = 0; tap < groups * OUTPUTS; tap++)
            for (int64_t i = 0; i < width; i++) {
                int64_t row = (tap / OUTPUTS * width + i) * OUTPUTS + tap % OUTPUTS;
                packed[(n / TILE * inner + row) * TILE + n % TILE] =
                    w[(n * groups * OUTPUTS + tap) * width + i];
            }
    return packed;
}

/* STEP_FOLD, then STEP_CONVOLVE: a convolution with dilation of what snake makes of the rows. */
static void check_folded(void) {
    int64_t rows = random_between(1, 150), distance = random_between(1, 16), groups = random_between(1, 3);
    int64_t width = 16 * random_between(1, 6), columns = 16 * random_between(1, 6), taps = groups * OUTPUTS;
    int64_t blocks = (rows + OUTPUTS * distance - 1) / (OUTPUTS * distance) + groups - 1;
    int64_t read = blocks * OUTPUTS * distance + (POINTS - OUTPUTS) * distance;
    int64_t point = blocks * distance * width, tiles = (columns + TILE - 1) / TILE;
    int64_t stride = width + random_between(0, 3);
    float *x = random_floats(OFFSET + read * stride), *w = random_floats(columns * taps * width);
    float *alpha = random_floats(width), *inverse = random_floats(width), *bias = random_floats(tiles * TILE);
    float *addend = random_floats(rows * columns), *y = calloc(OFFSET + rows * columns, sizeof *y);
    float *packed = pack_taps(w, columns, groups, width), *folded = calloc(POINTS * point, sizeof *folded);
    float *kernel = calloc(tiles * POINTS * groups * width * TILE, sizeof *kernel);
    for (int64_t i = 0; i < OFFSET + read * stride; i++) x[i] *= 5.0f;
    fold_step fold = {.kind = STEP_FOLD, .x = x, .x_stride = stride, .x_slot = AT_X,
        .rows_slot = AT_ROWS, .width = width, .distance = distance, .groups = groups, .alpha = alpha,
        .inverse = inverse, .y = folded, .point = point, .taps = packed, .tiles = tiles,
        .folded = kernel};
    convolve_step s = {.kind = STEP_CONVOLVE, .x = folded, .x_stride = width, .x_slot = AT_X,
        .point = point, .rows_slot = AT_ROWS, .width = width, .distance = distance, .groups = groups,
        .columns = columns, .tiles = kernel, .bias = bias, .addend = addend, .addend_stride = columns,
        .addend_slot = AT_ADDEND, .y = y, .y_stride = columns, .y_slot = AT_Y};
    int64_t slots[] = {rows, OFFSET, OFFSET, 0};
    RUN(fold, slots);
    RUN(s, slots);
    double *turned = malloc(read * width * sizeof *turned);
    for (int64_t r = 0; r < read; r++)
        for (int64_t i = 0; i < width; i++) {
            double value = x[OFFSET + r * stride + i];
            turned[r * width + i] = value + pow(sin(alpha[i] * value), 2.0) * inverse[i];
        }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t n = 0; n < columns; n++) {
            double sum = (double)bias[n] + addend[r * columns + n], size = 1.0;
            for (int64_t tap = 0; tap < taps; tap++)
                for (int64_t i = 0; i < width; i++) {
                    double part = turned[(r + tap * distance) * width + i];
                    part *= w[(n * taps + tap) * width + i];
                    sum += part, size += fabs(part);
                }
            expect("folded convolution", y[OFFSET + r * columns + n], sum, 3e-6 * size);
        }
    free(x), free(w), free(alpha), free(inverse), free(bias), free(addend), free(y), free(packed);
    free(folded), free(kernel), free(turned);
}

static double *random_doubles(int64_t count) { /* as vectors are read */
    double *x = aligned_alloc(sizeof(vd), (count + DOUBLES) / DOUBLES * sizeof(vd));
    for (int64_t i = 0; i < count; i++) x[i] = random_float() + 1e-9 * random_float();
    return x;
}

static void check_double(void) {
    int64_t rows = random_between(1, 80), columns = random_between(1, 50), width = random_between(1, 60);
    int64_t tiles = (columns + DOUBLE_TILE - 1) / DOUBLE_TILE, stride = random_between(1, width);
    double *x = random_doubles(OFFSET + (rows - 1) * stride + width), *w = random_doubles(columns * width);
    double *bias = random_doubles(tiles * DOUBLE_TILE), *packed = random_doubles(tiles * width * DOUBLE_TILE);
    double *y = random_doubles(rows * columns);
    for (int64_t n = 0; n < columns; n++)
        for (int64_t i = 0; i < width; i++)
            packed[(n / DOUBLE_TILE * width + i) * DOUBLE_TILE + n % DOUBLE_TILE] = w[n * width + i];
    convolve_step s = {.kind = STEP_DOUBLE, .x = (float *)x, .x_stride = 2 * stride, .x_slot = AT_X,
        .rows_slot = AT_ROWS, .width = 2 * width, .columns = columns, .tiles = (float *)packed,
        .bias = (float *)bias, .act = random_bits() & 1 ? CONVOLVE_ELU : CONVOLVE_PLAIN,
        .y = (float *)y, .y_stride = 2 * columns, .y_slot = AT_Y};
    int64_t slots[] = {rows, 2 * OFFSET, 0, 0};
    RUN(s, slots);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t n = 0; n < columns; n++) {
            double sum = bias[n];
            for (int64_t i = 0; i < width; i++) sum += x[OFFSET + r * stride + i] * w[n * width + i];
            expect("double", y[r * columns + n], convolved(sum, s.act, 0.0), 1e-13);
        }
    free(x), free(w), free(bias), free(packed), free(y);
}

#endif
