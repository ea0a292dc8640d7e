/* STEP_ROWS: y = act(norm(x + addend)) + shift, kept in float32, in eight bits, or both. */

typedef struct {
    int64_t kind;
    const float *x;      /* (rows, width), rows `x_stride` apart */
    int64_t x_stride, x_pad;
    const float *addend; /* added to x before all else, or NULL; laid out as x without padding */
    int64_t addend_stride;
    float *sum;          /* takes x + addend, laid out as x; or NULL */
    const float *gain, *bias; /* (width,); both NULL: no norm; bias NULL: root mean square norm */
    double epsilon;
    int64_t act;         /* see below */
    int64_t shift_slot;  /* slot with a pointer to (width,) floats that are added last; 0 = none */
    int64_t shift_offset; /* floats into it */
    float *y;            /* or NULL */
    int64_t y_stride, y_pad;
    int8_t *codes;       /* or NULL: (rows, width), no padding between them */
    float *scales;       /* (rows, blocks) */
    int32_t *totals;     /* (rows, blocks): sums of the codes */
    int64_t width, block; /* elements that share a scale */
    int64_t all_rows;    /* 1: padding rows are rows like others (x_pad says how many there are) */
    int64_t norm_slot;   /* slot with an address of gain and bias, one after the other; 0 = none */
    int64_t norm_offset; /* floats into them */
} rows_step;

enum { ACT_NONE, ACT_MISH, ACT_GELU, ACT_GELU_TANH, ACT_SILU, ACT_SILU_GATE, ACT_LEAKY };

#define LEAKY_SLOPE 0.01f

#define ROWS_PER_TASK 8

static int64_t rows_count(const rows_step *s, const call *c) {
    int64_t frames = c->slots[SLOT_FRAMES], branches = c->slots[SLOT_BRANCHES];
    return branches * (frames + (s->all_rows ? s->x_pad : 0));
}

static int64_t rows_tasks(const int64_t *step, const call *c) {
    return (rows_count((const rows_step *)step, c) + ROWS_PER_TASK - 1) / ROWS_PER_TASK;
}

/* x times the normal distribution's integral up to x, to 1e-6: relu(x) less |x| / 2 of what the error
 * function of |x| / sqrt(2) lacks to 1 (Abramowitz and Stegun 7.1.28). */
INLINE vf vf_gelu(vf x) {
    vf one = vf_all(1.0f), size = vf_abs(x), p = vf_all(5.382975e-6f);
    p = vf_fma(p, size, vf_all(4.889063e-5f));
    p = vf_fma(p, size, vf_all(3.800357e-5f));
    p = vf_fma(p, size, vf_all(3.2776263e-3f));
    p = vf_fma(p, size, vf_all(2.1141006e-2f));
    p = vf_fma(p, size, vf_all(4.9867347e-2f));
    p = vf_fma(p, size, one);
    p = vf_mul(p, p);
    p = vf_mul(p, p);
    p = vf_mul(p, p);
    p = vf_mul(p, p);
    return vf_sub(vf_max(x, vf_all(0.0f)), vf_div(vf_mul(size, vf_all(0.5f)), p));
}

INLINE vf activated(vf x, int64_t act) {
    vf one = vf_all(1.0f);
    switch (act) {
    case ACT_MISH: { /* x tanh(log(1 + e)) with e = exp(x) */
        vf e = vf_exp(vf_min(x, vf_all(20.0f)));
        vf n = vf_mul(e, vf_add(e, vf_all(2.0f)));
        return vf_mul(x, vf_div(n, vf_add(n, vf_all(2.0f))));
    }
    case ACT_GELU:
        return vf_gelu(x);
    case ACT_GELU_TANH: { /* 0.5 x (1 + tanh(u)) = x sigmoid(2 u) */
        vf u = vf_mul(x, vf_fma(vf_mul(x, x), vf_all(0.0713548162726f), vf_all(1.59576912161f)));
        return vf_div(x, vf_add(one, vf_exp(vf_sub(vf_all(0.0f), u))));
    }
    case ACT_SILU:
        return vf_div(x, vf_add(one, vf_exp(vf_sub(vf_all(0.0f), x))));
    case ACT_LEAKY: /* as long as the slope is below one */
        return vf_max(x, vf_mul(x, vf_all(LEAKY_SLOPE)));
    default:
        return x;
    }
}

#define WIDEST_ROW 8192

static void rows_run(const int64_t *step, const call *c, int64_t task) {
    const rows_step *s = (const rows_step *)step;
    int64_t frames = c->slots[SLOT_FRAMES], count = rows_count(s, c), width = s->width;
    int64_t stop = (task + 1) * ROWS_PER_TASK < count ? (task + 1) * ROWS_PER_TASK : count;
    const float *shift = NULL;
    if (s->shift_slot) shift = (const float *)(intptr_t)c->slots[s->shift_slot] + s->shift_offset;
    const float *gain = s->gain, *bias = s->bias;
    if (s->norm_slot) {
        gain = (const float *)(intptr_t)c->slots[s->norm_slot] + s->norm_offset;
        bias = gain + width;
    }
    float row[WIDEST_ROW];
    for (int64_t r = task * ROWS_PER_TASK; r < stop; r++) {
        int64_t place = s->all_rows ? r : padded_row(r, frames, s->x_pad);
        const float *x = s->x + place * s->x_stride;
        if (s->addend) {
            const float *addend = s->addend + r * s->addend_stride;
            for (int64_t i = 0; i < width; i += LANES)
                vf_store(row + i, vf_add(vf_load(x + i), vf_load(addend + i)));
            if (s->sum) memcpy(s->sum + place * s->x_stride, row, width * sizeof(float));
            x = row;
        }
        if (gain) {
            vf mean = vf_all(0.0f), square = vf_all(0.0f);
            if (bias) {
                vf sum = vf_all(0.0f);
                for (int64_t i = 0; i < width; i += LANES) sum = vf_add(sum, vf_load(x + i));
                mean = vf_all(vf_sum(sum) / (float)width);
            }
            for (int64_t i = 0; i < width; i += LANES) {
                vf d = vf_sub(vf_load(x + i), mean);
                square = vf_fma(d, d, square);
            }
            vf scale = vf_all(1.0f / sqrtf(vf_sum(square) / (float)width + (float)s->epsilon));
            for (int64_t i = 0; i < width; i += LANES) {
                vf d = vf_mul(vf_mul(vf_sub(vf_load(x + i), mean), scale), vf_load(gain + i));
                vf_store(row + i, bias ? vf_add(d, vf_load(bias + i)) : d);
            }
            x = row;
        }
        if (s->act == ACT_SILU_GATE) { /* x holds gates, then what they let pass */
            for (int64_t i = 0; i < width; i += LANES) {
                vf gate = activated(vf_load(x + i), ACT_SILU);
                vf_store(row + i, vf_mul(gate, vf_load(x + width + i)));
            }
            x = row;
        } else if (s->act) {
            for (int64_t i = 0; i < width; i += LANES)
                vf_store(row + i, activated(vf_load(x + i), s->act));
            x = row;
        }
        if (shift) {
            for (int64_t i = 0; i < width; i += LANES)
                vf_store(row + i, vf_add(vf_load(x + i), vf_load(shift + i)));
            x = row;
        }
        if (s->y) {
            float *y = s->y + padded_row(r, frames, s->y_pad) * s->y_stride;
            memcpy(y, x, width * sizeof(float));
        }
        if (s->codes) {
            int64_t blocks = (width + s->block - 1) / s->block;
            for (int64_t b = 0; b < blocks; b++) {
                int64_t first = b * s->block, size = width - first < s->block ? width - first : s->block;
                s->scales[r * blocks + b] = quantise(x + first, size, s->codes + r * width + first,
                                                     &s->totals[r * blocks + b]);
            }
        }
    }
}
