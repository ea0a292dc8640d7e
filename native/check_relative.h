/* The self test of attention by content and distance. */
#ifndef MYNAH_CHECK_RELATIVE_H
#define MYNAH_CHECK_RELATIVE_H

#include "check.h"
#include "check_attend.h"

/* In two calls; the first positions of the second one are hidden from it. */
static void check_relative(void) {
    enum { SEGMENTS = 4, TILES = 2 * SEGMENTS + 3, WORDS = SLOT_FIRST + 2 };
    int64_t heads = random_between(1, 3), size = 16 * random_between(1, 4), layer = random_between(0, 1);
    int64_t inner = heads * size, before = random_between(1, 150), now = random_between(1, 90);
    int64_t hidden = random_between(0, before < TILE ? before - 1 : TILE - 1), all = before + now;
    int64_t past = SEGMENTS + random_between(0, 1), tiles[TILES];
    float *qkv = random_floats(all * 3 * inner), *y = calloc(all * inner, sizeof *y);
    float *content = random_floats(inner), *position = random_floats(inner);
    for (int i = 0; i < TILES; i++)
        tiles[i] = (int64_t)(intptr_t)random_floats((layer + 1) * inner * TILE);
    relative_step s = {.kind = STEP_RELATIVE, .stride = 3 * inner, .y_stride = inner, .heads = heads,
        .size = size, .layer = layer, .slot = WORDS, .distance_slot = SLOT_FIRST, .content = content,
        .position = position, .scale = 0.25};
    float *memory[SEGMENTS];
    for (int i = 0; i < SEGMENTS; i++)
        memory[i] = calloc((layer + 1) * heads * relative_unit(&s), sizeof(float));
    for (int64_t first = 0; first < all; first += first ? now : before) {
        int64_t count = first ? now : before, stop = first + count;
        int64_t slots[WORDS + ATTEND_FIRST + 2 * SEGMENTS] = {count, 1};
        int64_t *words = slots + WORDS, *table = slots + SLOT_FIRST;
        table[DISTANCE_ADDRESS] = (int64_t)(intptr_t)tiles, table[DISTANCE_ORIGIN] = past * TILE;
        words[ATTEND_SEGMENTS] = (stop + TILE - 1) / TILE;
        words[ATTEND_SEGMENT] = first / TILE, words[ATTEND_POSITION] = first % TILE;
        for (int64_t i = 0; i < words[ATTEND_SEGMENTS]; i++) {
            int64_t begin = i == 0 && first ? hidden : 0;
            words[ATTEND_FIRST + 2 * i] = (int64_t)(intptr_t)memory[i];
            words[ATTEND_FIRST + 2 * i + 1] =
                begin << 32 | (stop - i * TILE < TILE ? stop - i * TILE : TILE);
        }
        s.qkv = qkv + first * 3 * inner, s.y = y + first * inner;
        RUN(s, slots);
    }
    double *scores = malloc(all * sizeof *scores), wanted[TILE];
    for (int64_t f = before; f < all; f++)
        for (int64_t head = 0; head < heads; head++) {
            const float *query = qkv + f * 3 * inner + head * size, *tile;
            const float *keys = qkv + inner + head * size, *u = content + head * size;
            const float *v = position + head * size;
            for (int64_t i = hidden; i < all; i++) {
                int64_t column = past * TILE + i - f;
                tile = (const float *)(intptr_t)tiles[column / TILE];
                tile += (layer * heads + head) * size * TILE;
                scores[i] = 0.0;
                for (int64_t k = 0; k < size; k++)
                    scores[i] += 0.25 * ((query[k] + (double)u[k]) * keys[i * 3 * inner + k] +
                                         (query[k] + (double)v[k]) * tile[k * TILE + column % TILE]);
            }
            plain_attention(scores + hidden, all - hidden, keys + inner + hidden * 3 * inner,
                            3 * inner, size, wanted);
            for (int64_t k = 0; k < size; k++)
                expect("relative attention", y[f * inner + head * size + k], wanted[k], 2e-5);
        }
    for (int i = 0; i < SEGMENTS; i++) free(memory[i]);
    for (int i = 0; i < TILES; i++) free((void *)(intptr_t)tiles[i]);
    free(qkv), free(y), free(content), free(position), free(scores);
}

#endif
