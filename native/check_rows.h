/* The self test of steps that compute row by row. */
#ifndef MYNAH_CHECK_ROWS_H
#define MYNAH_CHECK_ROWS_H

#include "check.h"

static double activation(double x, int64_t act) {
    switch (act) {
    case ACT_MISH: return x * tanh(log1p(exp(x)));
    case ACT_GELU: return x * 0.5 * (1.0 + erf(x / sqrt(2.0)));
    case ACT_GELU_TANH: return x * 0.5 * (1.0 + tanh(sqrt(2.0 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
    case ACT_SILU: case ACT_SILU_GATE: return x / (1.0 + exp(-x));
    case ACT_LEAKY: return x > 0.0 ? x : LEAKY_SLOPE * x;
    default: return x;
    }
}

/* Rows in codes are what was computed in floats, to half a step. */
static void check_codes(const rows_step *s, const float *y, int64_t count) {
    int64_t blocks = (s->width + s->block - 1) / s->block;
    for (int64_t r = 0; r < count; r++)
        for (int64_t b = 0; b < blocks; b++) {
            int32_t total = 0;
            float scale = s->scales[r * blocks + b];
            int64_t stop = (b + 1) * s->block < s->width ? (b + 1) * s->block : s->width;
            for (int64_t i = b * s->block; i < stop; i++) {
                int8_t code = s->codes[r * s->width + i];
                total += code;
                expect("code", scale * code, y[r * s->width + i], 0.501 * scale);
            }
            expect("total", s->totals[r * blocks + b], total, 0);
        }
}

static void check_rows(int64_t act) {
    int64_t frames = random_between(1, 20), branches = random_between(1, 2), count = frames * branches;
    int64_t width = 16 * random_between(1, 20), wide = act == ACT_SILU_GATE ? 2 * width : width;
    int64_t block = random_bits() & 1 ? width : 16 * random_between(1, width / 16);
    int64_t blocks = (width + block - 1) / block, norm = act == ACT_SILU_GATE ? 0 : random_bits() % 3;
    float *x = random_floats(count * wide), *addend = random_floats(count * wide);
    for (int64_t i = 0; i < count * wide; i++) x[i] *= 8.0f;
    float *gain = random_floats(width), *bias = random_floats(width), *shift = random_floats(width);
    float *y = calloc(count * width, sizeof *y), *scales = calloc(count * blocks, sizeof *scales);
    int32_t *totals = calloc(count * blocks, sizeof *totals);
    int8_t *codes = calloc(count, width);
    rows_step s = {.kind = STEP_ROWS, .x = x, .x_stride = wide, .epsilon = 1e-5, .act = act,
        .gain = norm ? gain : NULL, .bias = norm == 2 ? bias : NULL, .shift_slot = 2, .y = y,
        .y_stride = width, .codes = codes, .scales = scales, .totals = totals, .width = width,
        .block = block};
    if (act != ACT_SILU_GATE) s.addend = addend, s.addend_stride = width;
    int64_t slots[] = {frames, branches, (int64_t)(intptr_t)shift};
    RUN(s, slots);
    for (int64_t r = 0; r < count; r++) {
        double mean = 0.0, square = 0.0;
        const float *row = x + r * wide, *more = addend + r * wide;
        for (int64_t i = 0; i < width; i++) mean += norm == 2 ? (row[i] + more[i]) / width : 0.0;
        for (int64_t i = 0; i < width; i++) square += pow(row[i] + more[i] - mean, 2.0) / width;
        for (int64_t i = 0; i < width; i++) {
            double value = row[i] + (s.addend ? more[i] : 0.0f);
            if (norm) value = (value - mean) / sqrt(square + 1e-5) * gain[i];
            if (norm == 2) value += bias[i];
            value = activation(value, act) * (act == ACT_SILU_GATE ? row[width + i] : 1.0f) + shift[i];
            expect("row", y[r * width + i], value, 1e-5 + 2e-6 * fabs(value));
        }
    }
    check_codes(&s, y, count);
    free(x), free(addend), free(gain), free(bias), free(shift), free(y), free(scales), free(totals);
    free(codes);
}

/* Frames before the first one of each branch come from a state, and the last ones go there. */
static void check_context(void) {
    int64_t frames = random_between(1, 20), branches = random_between(1, 3), width = random_between(1, 70);
    int64_t pad = random_between(1, 4), offset = random_between(0, 9), rows = pad + frames;
    int64_t held = branches * (offset + pad * width);
    float *x = random_floats(branches * rows * width), *old = random_floats(held);
    float *state = malloc(held * sizeof *state);
    memcpy(state, old, held * sizeof *state);
    context_step s = {.kind = STEP_CONTEXT, .x = x, .width = width, .pad = pad, .slot = SLOT_FIRST,
        .offset = offset};
    int64_t slots[] = {frames, branches, (int64_t)(intptr_t)state};
    double *wanted = malloc(branches * rows * width * sizeof *wanted);
    for (int64_t i = 0; i < branches * rows * width; i++) {
        int64_t b = i / width / rows, at = i % (rows * width);
        wanted[i] = at < pad * width ? old[branches * offset + b * pad * width + at] : x[i];
    }
    RUN(s, slots);
    for (int64_t i = 0; i < branches * rows * width; i++) expect("context", x[i], wanted[i], 0.0);
    for (int64_t i = 0; i < branches * offset; i++) expect("context of others", state[i], old[i], 0.0);
    for (int64_t i = 0; i < branches * pad * width; i++) {
        int64_t b = i / (pad * width), last = (b * rows + frames) * width + i % (pad * width);
        expect("context kept", state[branches * offset + i], wanted[last], 0.0);
    }
    free(x), free(old), free(state), free(wanted);
}

/* Pairs that lie side by side, of the first head of queries and of keys. */
static void check_rotate(void) {
    int64_t frames = random_between(1, 20), branches = random_between(1, 3), size = 2 * random_between(1, 32);
    int64_t keys = size + random_between(0, 40), stride = keys + size + random_between(0, 40);
    float *x = random_floats(branches * frames * stride), *table = random_floats(frames * size);
    double *wanted = malloc(branches * frames * stride * sizeof *wanted);
    for (int64_t i = 0; i < branches * frames * stride; i++) {
        int64_t at = i % stride, place = at < keys ? at : at - keys;
        const float *cosine = table + i / stride % frames * size + place / 2, *sine = cosine + size / 2;
        wanted[i] = x[i];
        if (place >= size) continue;
        if (place % 2) wanted[i] = (double)x[i] * *cosine + (double)x[i - 1] * *sine;
        else wanted[i] = (double)x[i] * *cosine - (double)x[i + 1] * *sine;
    }
    rotate_step s = {.kind = STEP_ROTATE, .x = x, .stride = stride, .keys = keys, .size = size,
        .slot = SLOT_FIRST};
    int64_t slots[] = {frames, branches, (int64_t)(intptr_t)table};
    RUN(s, slots);
    for (int64_t i = 0; i < branches * frames * stride; i++) expect("rotated", x[i], wanted[i], 1e-6);
    free(x), free(table), free(wanted);
}

#endif
