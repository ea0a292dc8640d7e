/* STEP_KEEP, STEP_JOIN, STEP_SPECTRUM: what a vocoder does beside its convolutions.
 *
 * Offsets in slots count floats, numbers of rows count rows (see steps_convolve.h).
 */

typedef struct {
    int64_t kind;
    float *x;       /* rows kept from the last call, then those of this one */
    int64_t width;  /* also the floats from row to row */
    int64_t counts_slot; /* of four slots: see below */
    int64_t state_slot;  /* with a pointer to the rows of all such steps */
    int64_t offset;      /* floats into them */
} keep_step;

/* Rows kept before, new ones, rows to keep now, zeros that follow the last row. */
enum { KEEP_BEFORE, KEEP_NEW, KEEP_NOW, KEEP_ZEROS };

#define MOST_JOINED 6
#define JOIN_ROWS 64

typedef struct {
    int64_t kind;
    float *y;
    int64_t y_slot, rows_slot;
    int64_t width;       /* also the floats from row to row */
    double scale, slope; /* y = leaky(scale * sum); slope 1: no leaky ReLU */
    int64_t count;
    struct {
        const float *x;
        int64_t slot;
    } parts[MOST_JOINED];
} join_step;

typedef struct {
    int64_t kind;
    const float *x;      /* (rows, 2 or 3 * bins): log magnitudes and angles, then those of noise */
    int64_t x_stride, x_slot, rows_slot;
    int64_t bins;        /* a multiple of 16 */
    double most;         /* magnitude */
    const float *source; /* (rows, 4 * bins): spectra that are filtered, or NULL: the angle is a sine */
    int64_t source_stride, source_slot;
    float *y;            /* (rows, 2 * bins): real parts, imaginary parts */
    int64_t y_stride;
} spectrum_step;

static int64_t keep_tasks(const int64_t *step, const call *c) {
    (void)step, (void)c;
    return 1;
}

static void keep_run(const int64_t *step, const call *c, int64_t task) {
    const keep_step *s = (const keep_step *)step;
    const int64_t *counts = c->slots + s->counts_slot;
    float *kept = (float *)(intptr_t)c->slots[s->state_slot] + s->offset;
    int64_t width = s->width, rows = counts[KEEP_BEFORE] + counts[KEEP_NEW];
    (void)task;
    memcpy(s->x, kept, counts[KEEP_BEFORE] * width * sizeof(float));
    memset(s->x + rows * width, 0, counts[KEEP_ZEROS] * width * sizeof(float));
    memcpy(kept, s->x + (rows - counts[KEEP_NOW]) * width, counts[KEEP_NOW] * width * sizeof(float));
}

static int64_t join_tasks(const int64_t *step, const call *c) {
    return (c->slots[((const join_step *)step)->rows_slot] + JOIN_ROWS - 1) / JOIN_ROWS;
}

static void join_run(const int64_t *step, const call *c, int64_t task) {
    const join_step *s = (const join_step *)step;
    int64_t first = task * JOIN_ROWS, rows = c->slots[s->rows_slot] - first;
    int64_t size = (rows < JOIN_ROWS ? rows : JOIN_ROWS) * s->width;
    float *y = s->y + c->slots[s->y_slot] + first * s->width;
    const float *x[MOST_JOINED];
    for (int64_t n = 0; n < s->count; n++)
        x[n] = s->parts[n].x + c->slots[s->parts[n].slot] + first * s->width;
    vf scale = vf_all((float)s->scale), slope = vf_all((float)s->slope), zero = vf_all(0.0f);
    for (int64_t i = 0; i < size; i += LANES) {
        vf sum = vf_load(x[0] + i);
        for (int64_t n = 1; n < s->count; n++) sum = vf_add(sum, vf_load(x[n] + i));
        sum = vf_mul(sum, scale);
        vf_store(y + i, vf_fma(vf_min(zero, sum), slope, vf_max(zero, sum)));
    }
}

static int64_t spectrum_tasks(const int64_t *step, const call *c) {
    return (c->slots[((const spectrum_step *)step)->rows_slot] + JOIN_ROWS - 1) / JOIN_ROWS;
}

static void spectrum_run(const int64_t *step, const call *c, int64_t task) {
    const spectrum_step *s = (const spectrum_step *)step;
    int64_t rows = c->slots[s->rows_slot], bins = s->bins, stop = (task + 1) * JOIN_ROWS;
    vf most = vf_all((float)s->most);
    for (int64_t r = task * JOIN_ROWS; r < rows && r < stop; r++) {
        const float *x = s->x + c->slots[s->x_slot] + r * s->x_stride;
        float *y = s->y + r * s->y_stride;
        for (int64_t i = 0; i < bins; i += LANES) {
            vf size = vf_min(most, vf_exp(vf_load(x + i))), angle = vf_load(x + bins + i);
            if (!s->source) angle = vf_sin(angle);
            vf re = vf_mul(size, vf_cos(angle)), im = vf_mul(size, vf_sin(angle));
            if (s->source) {
                const float *source = s->source + c->slots[s->source_slot] + r * s->source_stride + i;
                vf noise = vf_min(vf_exp(vf_load(x + 2 * bins + i)), most);
                vf pulse_re = vf_load(source), pulse_im = vf_load(source + bins);
                vf noise_re = vf_mul(noise, vf_load(source + 2 * bins));
                vf noise_im = vf_mul(noise, vf_load(source + 3 * bins));
                vf turned = vf_sub(vf_mul(re, pulse_re), vf_mul(im, pulse_im));
                noise_im = vf_fma(re, pulse_im, vf_fma(im, pulse_re, noise_im));
                re = vf_add(turned, noise_re), im = noise_im;
            }
            vf_store(y + i, re);
            vf_store(y + bins + i, im);
        }
    }
}
