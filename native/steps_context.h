/* STEP_CONTEXT: the frames that a causal convolution reads before the first one. */

typedef struct {
    int64_t kind;
    float *x;       /* (branches, pad + frames, width) */
    int64_t width, pad;
    int64_t slot;   /* with a pointer to all such frames of a state */
    int64_t offset; /* floats into it: (branches, pad, width) */
} context_step;

static int64_t context_tasks(const int64_t *step, const call *c) {
    (void)step, (void)c;
    return 1;
}

static void context_run(const int64_t *step, const call *c, int64_t task) {
    const context_step *s = (const context_step *)step;
    (void)task;
    int64_t frames = c->slots[SLOT_FRAMES], branches = c->slots[SLOT_BRANCHES];
    /* offset counts one branch */
    float *kept = (float *)(intptr_t)c->slots[s->slot] + s->offset * branches;
    for (int64_t b = 0; b < branches; b++) {
        float *x = s->x + b * (s->pad + frames) * s->width, *mine = kept + b * s->pad * s->width;
        memcpy(x, mine, s->pad * s->width * sizeof(float));
        memcpy(mine, x + frames * s->width, s->pad * s->width * sizeof(float));
    }
}
