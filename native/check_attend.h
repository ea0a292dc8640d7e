/* The self test of attention. */
#ifndef MYNAH_CHECK_ATTEND_H
#define MYNAH_CHECK_ATTEND_H

#include "check.h"

/* Softmax of scores times values, for one query. */
static void plain_attention(const double *scores, int64_t count, const float *values, int64_t stride,
                            int64_t size, double *y) {
    double peak = -INFINITY, sum = 0.0;
    memset(y, 0, size * sizeof *y);
    for (int64_t i = 0; i < count; i++) peak = fmax(peak, scores[i]);
    for (int64_t i = 0; i < count; i++) {
        double weight = exp(scores[i] - peak);
        sum += weight;
        for (int64_t k = 0; k < size; k++) y[k] += weight * values[i * stride + k];
    }
    for (int64_t k = 0; k < size; k++) y[k] /= sum;
}

/* Frames in two calls; the first positions of the second one are hidden from it. */
static void check_attend(void) {
    enum { SEGMENTS = 15 };
    int64_t heads = random_between(1, 3), size = 16 * random_between(1, 4), branches = 2;
    int64_t inner = heads * size, before = random_between(1, 150), now = random_between(1, 90);
    int64_t hidden = random_between(0, before < POSITIONS ? before - 1 : POSITIONS - 1), all = before + now;
    float *qkv = random_floats(branches * all * 3 * inner), *y = calloc(branches * now * inner, 4);
    attend_step s = {.kind = STEP_ATTEND, .stride = 3 * inner, .y = y, .y_stride = inner,
        .heads = heads, .size = size, .slot = SLOT_FIRST};
    float *memory[SEGMENTS], *part = malloc(branches * all * 3 * inner * sizeof *part);
    for (int i = 0; i < SEGMENTS; i++) memory[i] = calloc(branches * heads * attend_unit(&s), 1);
    for (int64_t first = 0; first < all; first += before) {
        int64_t count = first ? now : before, stop = first + count;
        int64_t slots[SLOT_FIRST + ATTEND_FIRST + 2 * SEGMENTS] = {count, branches};
        int64_t *words = slots + SLOT_FIRST;
        words[ATTEND_SEGMENTS] = (stop + POSITIONS - 1) / POSITIONS;
        words[ATTEND_SEGMENT] = first / POSITIONS, words[ATTEND_POSITION] = first % POSITIONS;
        for (int64_t i = 0; i < words[ATTEND_SEGMENTS]; i++) {
            int64_t begin = i == 0 && first ? hidden : 0;
            words[ATTEND_FIRST + 2 * i] = (int64_t)(intptr_t)memory[i];
            words[ATTEND_FIRST + 2 * i + 1] =
                begin << 32 | (stop - i * POSITIONS < POSITIONS ? stop - i * POSITIONS : POSITIONS);
        }
        for (int64_t b = 0; b < branches; b++)
            memcpy(part + b * count * 3 * inner, qkv + (b * all + first) * 3 * inner,
                   count * 3 * inner * sizeof *part);
        float *unused = calloc(branches * count * inner, sizeof *unused);
        s.qkv = part, s.y = first ? y : unused;
        RUN(s, slots);
        free(unused);
        if (first) break;
    }
    double *scores = malloc(all * sizeof *scores), wanted[TILE];
    for (int64_t row = 0; row < branches * now * heads; row++) {
        int64_t head = row % heads, f = row / heads % now, b = row / heads / now;
        const float *keys = qkv + b * all * 3 * inner + inner + head * size;
        const float *query = keys - inner + (before + f) * 3 * inner;
        for (int64_t i = hidden; i < all; i++) {
            scores[i] = 0.0;
            for (int64_t k = 0; k < size; k++) scores[i] += (double)query[k] * keys[i * 3 * inner + k];
        }
        plain_attention(scores + hidden, all - hidden, keys + inner + hidden * 3 * inner, 3 * inner,
                        size, wanted);
        for (int64_t k = 0; k < size; k++)
            expect("attention", y[(b * now + f) * inner + head * size + k], wanted[k], 0.06);
    }
    for (int i = 0; i < SEGMENTS; i++) free(memory[i]);
    free(qkv), free(y), free(part), free(scores);
}

static void check_causal(void) {
    enum { SEGMENTS = 4 };
    int64_t share = random_between(1, 3), key_heads = random_between(1, 2), heads = share * key_heads;
    int64_t size = 16 * random_between(1, 8), count = random_between(1, SEGMENTS * TILE);
    int64_t tiles = (size + TILE - 1) / TILE, unit = TILE * size + tiles * TILE * TILE;
    int64_t stride = (heads + 2 * key_heads) * size;
    float *qkv = random_floats(count * stride), *y = calloc(count * heads * size, sizeof *y);
    float *cosine = malloc(count * size / 2 * sizeof *cosine), *sine = malloc(count * size / 2 * 4);
    for (int64_t i = 0; i < count * size / 2; i++)
        cosine[i] = cosf(0.1f * (float)i), sine[i] = sinf(0.1f * (float)i);
    int64_t segments[SEGMENTS];
    for (int i = 0; i < SEGMENTS; i++)
        segments[i] = (int64_t)(intptr_t)calloc(key_heads * unit, sizeof(uint16_t));
    causal_step s = {.kind = STEP_APPEND, .qkv = qkv, .stride = stride, .y = y,
        .y_stride = heads * size, .heads = heads, .key_heads = key_heads, .size = size,
        .slot = SLOT_FIRST, .scale = 0.5};
    int64_t slots[] = {count, 1, (int64_t)(intptr_t)cosine, (int64_t)(intptr_t)sine, 0,
                       (int64_t)(intptr_t)segments};
    RUN(s, slots);
    s.kind = STEP_CAUSAL;
    RUN(s, slots);
    double *scores = malloc(count * sizeof *scores), wanted[MOST_SIZE];
    float *values = malloc(count * size * sizeof *values);
    for (int64_t f = 0; f < count; f++)
        for (int64_t head = 0; head < heads; head++) {
            const float *query = qkv + f * stride + head * size;
            const float *keys = qkv + (heads + head / share) * size;
            for (int64_t i = 0; i <= f; i++) {
                scores[i] = 0.0;
                for (int64_t k = 0; k < size / 2; k++) { /* the angle between the two positions */
                    const float *cf = cosine + f * size / 2 + k, *sf = sine + f * size / 2 + k;
                    const float *ci = cosine + i * size / 2 + k, *si = sine + i * size / 2 + k;
                    const float *key = keys + i * stride + k;
                    double q1 = (double)query[k] * *cf - (double)query[size / 2 + k] * *sf;
                    double q2 = (double)query[size / 2 + k] * *cf + (double)query[k] * *sf;
                    float k1f = key[0] * *ci - key[size / 2] * *si; /* as it is rounded to a half */
                    float k2f = key[size / 2] * *ci + key[0] * *si;
                    double k1 = nearest_half(k1f), k2 = nearest_half(k2f);
                    scores[i] += (q1 * k1 + q2 * k2) * 0.5;
                }
            }
            for (int64_t i = 0; i <= f; i++)
                for (int64_t k = 0; k < size; k++)
                    values[i * size + k] = (float)nearest_half(keys[i * stride + key_heads * size + k]);
            plain_attention(scores, f + 1, values, size, size, wanted);
            for (int64_t k = 0; k < size; k++)
                expect("causal", y[(f * heads + head) * size + k], wanted[k], 2e-5);
        }
    for (int i = 0; i < SEGMENTS; i++) free((void *)(intptr_t)segments[i]);
    free(qkv), free(y), free(cosine), free(sine), free(scores), free(values);
}

/* Keys and values of all magnitudes become the nearest numbers in half precision. */
static void check_append(void) {
    enum { SIZE = 64, COUNT = TILE };
    float *qkv = calloc(COUNT * 3 * SIZE, sizeof *qkv), cosine[COUNT * SIZE / 2], sine[COUNT * SIZE / 2];
    for (int64_t i = 0; i < COUNT * SIZE / 2; i++) cosine[i] = 1.0f, sine[i] = 0.0f;
    for (int64_t i = 0; i < COUNT * 3 * SIZE; i++) {
        qkv[i] = ldexpf(random_float(), (int)random_between(-30, 20));
        uint32_t bits;
        memcpy(&bits, &qkv[i], 4);
        if (random_bits() & 1) bits = (bits & ~0x1fffu) | 0x1000; /* as far from two halves */
        memcpy(&qkv[i], &bits, 4);
    }
    uint16_t *segment = calloc(2 * SIZE * TILE, sizeof *segment);
    int64_t segments[] = {(int64_t)(intptr_t)segment};
    causal_step s = {.kind = STEP_APPEND, .qkv = qkv, .stride = 3 * SIZE, .heads = 1, .key_heads = 1,
        .size = SIZE, .slot = SLOT_FIRST};
    int64_t slots[] = {COUNT, 1, (int64_t)(intptr_t)cosine, (int64_t)(intptr_t)sine, 0,
                       (int64_t)(intptr_t)segments};
    RUN(s, slots);
    for (int64_t i = 0; i < COUNT; i++)
        for (int64_t k = 0; k < SIZE; k++) {
            const float *key = qkv + (i * 3 + 1) * SIZE + k, *value = key + SIZE;
            expect("key", half_value(segment[k * TILE + i]), nearest_half(*key), 0.0);
            expect("value", half_value(segment[(TILE + i) * SIZE + k]), nearest_half(*value), 0.0);
        }
    qkv[2 * SIZE] = NAN;
    RUN(s, slots);
    expect("no number", (segment[TILE * SIZE] & 0x7fff) > 0x7c00, 1, 0.0);
    free(qkv), free(segment);
}

#endif
