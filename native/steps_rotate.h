/* STEP_ROTATE: positions into the first head of queries and keys (Su et al. 2021, pairs side by side). */

typedef struct {
    int64_t kind;
    float *x;        /* (rows, ...), rows `stride` apart: queries, and keys `keys` floats behind them */
    int64_t stride, keys, size;
    int64_t slot;    /* with the address of (frames, 2, size / 2): cosines, then sines */
} rotate_step;

static int64_t rotate_tasks(const int64_t *step, const call *c) {
    (void)step;
    return c->slots[SLOT_BRANCHES];
}

static void rotate_run(const int64_t *step, const call *c, int64_t task) {
    const rotate_step *s = (const rotate_step *)step;
    int64_t frames = c->slots[SLOT_FRAMES], half = s->size / 2;
    const float *table = (const float *)(intptr_t)c->slots[s->slot];
    for (int64_t f = 0; f < frames; f++) {
        const float *cosines = table + f * s->size, *sines = cosines + half;
        float *row = s->x + (task * frames + f) * s->stride;
        for (float *x = row; x <= row + s->keys; x += s->keys)
            for (int64_t i = 0; i < half; i++) {
                float even = x[2 * i], odd = x[2 * i + 1];
                x[2 * i] = even * cosines[i] - odd * sines[i];
                x[2 * i + 1] = odd * cosines[i] + even * sines[i];
            }
    }
}
