/* STEP_FOLD and STEP_CONVOLVE: convolutions over rows of which any number is computed at a time.
 *
 * Slots say how many rows, and where in their buffers they begin (in floats): an incremental network
 * knows neither when it is built.
 *
 * A convolution with dilation is computed by the method of Toom and Cook (as Winograd's for filters):
 * four outputs from seven inputs by four taps take 7 products in place of 16. Longer kernels are
 * groups of four taps, whose products are added up before they are turned into outputs. The rows at
 * distance d make d sequences, each cut into tiles of four: tile row b * d + q begins with row
 * 4 b d + q. STEP_FOLD turns rows into seven values for each tile, at the points 0, 1, -1, 2, -2, 1/2
 * and infinity, and does the same with the weights: kept folded, those of a vocoder would be nearly
 * twice as large.
 */

#define POINTS 7
#define OUTPUTS 4
#define STRIP 64         /* columns that are folded together */
#define FOLD_ROWS 64     /* rows of a task, and at most so many: */
#define MOST_FOLD_ROWS 112
#define CONVOLVE_ROWS (GROUP * GROUPS_PER_TASK)

typedef struct {
    int64_t kind;
    const float *x;
    int64_t x_stride, x_slot; /* where the window of the first output begins */
    int64_t rows_slot;        /* outputs of the convolution */
    int64_t width, distance;  /* distance: of the taps, in rows; at most 16 */
    int64_t groups;           /* of four taps */
    const float *alpha, *inverse; /* (width,): x + sin^2(alpha x) * inverse comes first */
    float *y;                 /* (POINTS, tile rows, width) */
    int64_t point;            /* floats from one point to the next */
    const float *taps;        /* weights of the convolution: [tile][group][inner element][tap][column] */
    int64_t tiles;
    float *folded;            /* [tile][point][group][inner element][column] */
} fold_step;

typedef struct {
    int64_t kind;
    const float *x;
    int64_t x_stride, x_slot; /* rows of the product: of any length, they may overlap */
    int64_t point;            /* folded rows: floats from one point to the next; 0: x is not folded */
    int64_t rows_slot;        /* outputs */
    int64_t width;            /* inner elements of a group, or of the product */
    int64_t distance, groups; /* of folded rows */
    int64_t columns;
    const float *tiles;       /* packed; for each tile the points, and for each of them the groups */
    const float *bias;        /* (columns,) up to a multiple of TILE, or NULL */
    int64_t act;              /* see below */
    double slope;
    const float *addend;      /* added last, or NULL */
    int64_t addend_stride, addend_slot;
    float *y;
    int64_t y_stride, y_slot;
} convolve_step;

enum { CONVOLVE_PLAIN, CONVOLVE_LEAKY, CONVOLVE_ELU };

static int64_t blocks_of(int64_t rows, int64_t distance) {
    return (rows + OUTPUTS * distance - 1) / (OUTPUTS * distance);
}

static int64_t fold_blocks(const fold_step *s) { /* of one task */
    int64_t blocks = FOLD_ROWS / (OUTPUTS * s->distance);
    return blocks ? blocks : 1;
}

static int64_t fold_count(const fold_step *s, const call *c) {
    int64_t rows = c->slots[s->rows_slot];
    return rows ? blocks_of(rows, s->distance) + s->groups - 1 : 0;
}

static int64_t fold_tasks(const int64_t *step, const call *c) {
    const fold_step *s = (const fold_step *)step;
    int64_t count = fold_count(s, c);
    return count ? s->tiles * s->groups + (count + fold_blocks(s) - 1) / fold_blocks(s) : 0;
}

/* One group of taps of one tile; the factors make up for those of rows, which meet whole numbers only. */
static void fold_weights(const fold_step *s, int64_t part) {
    int64_t size = s->width * TILE, point = s->groups * size;
    const float *taps = s->taps + part * OUTPUTS * size;
    float *y = s->folded + part / s->groups * POINTS * point + part % s->groups * size;
    vf four = vf_all(4.0f), half = vf_all(0.5f);
    for (int64_t k = 0; k < size; k += TILE, taps += OUTPUTS * TILE)
        for (int64_t i = 0; i < TILE; i += LANES) {
            vf w[OUTPUTS];
            for (int n = 0; n < OUTPUTS; n++) w[n] = vf_load(taps + n * TILE + i);
            vf even = vf_add(w[0], w[2]), odd = vf_add(w[1], w[3]);
            vf even2 = vf_fma(w[2], four, w[0]), odd2 = vf_fma(w[3], four, w[1]);
            vf late = vf_fma(vf_fma(vf_fma(w[3], half, w[2]), half, w[1]), half, w[0]);
            odd2 = vf_add(odd2, odd2);
            float *place = y + k + i;
            vf_store(place, vf_mul(w[0], vf_all(1.0f / 4)));
            vf_store(place + point, vf_mul(vf_add(even, odd), vf_all(1.0f / 6)));
            vf_store(place + 2 * point, vf_mul(vf_sub(even, odd), vf_all(1.0f / 18)));
            vf_store(place + 3 * point, vf_mul(vf_add(even2, odd2), vf_all(1.0f / 72)));
            vf_store(place + 4 * point, vf_mul(vf_sub(even2, odd2), vf_all(1.0f / 120)));
            vf_store(place + 5 * point, vf_mul(late, vf_all(32.0f / 45)));
            vf_store(place + 6 * point, vf_mul(w[3], half));
        }
}

static void fold_run(const int64_t *step, const call *c, int64_t task) {
    const fold_step *s = (const fold_step *)step;
    if (task < s->tiles * s->groups) {
        fold_weights(s, task);
        return;
    }
    task -= s->tiles * s->groups;
    int64_t d = s->distance, begin = task * fold_blocks(s), count = fold_count(s, c) - begin;
    if (count > fold_blocks(s)) count = fold_blocks(s);
    const float *x = s->x + c->slots[s->x_slot] + begin * OUTPUTS * d * s->x_stride;
    float *y = s->y + begin * d * s->width;
    int64_t rows = count * OUTPUTS * d + (POINTS - OUTPUTS) * d;
    float strip[MOST_FOLD_ROWS][STRIP];
    for (int64_t first = 0; first < s->width; first += STRIP) {
        int64_t width = s->width - first < STRIP ? s->width - first : STRIP;
        for (int64_t i = 0; i < width; i += LANES) {
            vf alpha = vf_load(s->alpha + first + i), inverse = vf_load(s->inverse + first + i);
            for (int64_t r = 0; r < rows; r++)
                vf_store(&strip[r][i],
                         vf_snake(vf_load(x + r * s->x_stride + first + i), alpha, inverse));
        }
        for (int64_t tile = 0; tile < count * d; tile++) {
            const float *row = &strip[tile / d * OUTPUTS * d + tile % d][0];
            float *place = y + tile * s->width + first;
            for (int64_t i = 0; i < width; i += LANES, row += LANES, place += LANES) {
                vf r[POINTS];
                for (int n = 0; n < POINTS; n++) r[n] = vf_load(row + n * d * STRIP);
                vf two = vf_all(2.0f), four = vf_all(4.0f), five = vf_all(-5.0f);
                vf odd = vf_fma(r[1], four, vf_fma(r[3], five, r[5]));
                vf even = vf_fma(r[0], four, vf_fma(r[2], five, r[4]));
                vf late = vf_fma(r[2], four, vf_fma(r[4], five, r[6]));
                /* 4 (r2 - r1) + 9 r3 - r4 - 2 r5, -4 r1 + 12 r2 - 7 r3 - 3 r4 + 2 r5, ... */
                vf one = vf_fma(vf_sub(r[2], r[1]), four, vf_fma(r[3], vf_all(9.0f),
                                vf_sub(vf_all(0.0f), vf_fma(r[5], two, r[4]))));
                vf minus = vf_fma(r[1], vf_all(-4.0f), vf_fma(r[2], vf_all(12.0f),
                           vf_fma(r[3], vf_all(-7.0f), vf_fma(r[4], vf_all(-3.0f),
                                  vf_mul(r[5], two)))));
                vf sum = vf_mul(vf_add(r[1], r[5]), two);
                vf plus2 = vf_fma(vf_sub(r[4], r[2]), vf_all(3.0f), vf_fma(r[3], vf_all(-4.0f), sum));
                vf minus2 = vf_fma(vf_sub(r[4], r[2]), vf_all(5.0f),
                                   vf_mul(vf_sub(r[1], r[5]), two));
                vf_store(place, vf_fma(odd, vf_all(-2.0f), even));
                vf_store(place + s->point, one);
                vf_store(place + 2 * s->point, minus);
                vf_store(place + 3 * s->point, plus2);
                vf_store(place + 4 * s->point, minus2);
                vf_store(place + 5 * s->point, odd);
                vf_store(place + 6 * s->point, vf_fma(late, two, vf_sub(vf_all(0.0f), odd)));
            }
        }
    }
}

static int64_t convolve_rows(const convolve_step *s, const call *c) { /* of the products */
    int64_t rows = c->slots[s->rows_slot];
    return s->point ? blocks_of(rows, s->distance) * s->distance : rows;
}

static int64_t convolve_tasks(const int64_t *step, const call *c) {
    const convolve_step *s = (const convolve_step *)step;
    int64_t parts = (convolve_rows(s, c) + CONVOLVE_ROWS - 1) / CONVOLVE_ROWS;
    return (s->columns + TILE - 1) / TILE * parts;
}

static void convolve_store(const convolve_step *s, const call *c, const share *mine, int64_t row,
                           int64_t column, vf sum) {
    int64_t at = mine->tile * TILE + column;
    if (s->bias) sum = vf_add(sum, vf_load(s->bias + at));
    if (s->act == CONVOLVE_LEAKY) {
        vf low = vf_min(vf_all(0.0f), sum);
        sum = vf_fma(low, vf_all((float)s->slope), vf_max(vf_all(0.0f), sum));
    } else if (s->act == CONVOLVE_ELU) {
        vf low = vf_sub(vf_exp(vf_min(vf_all(0.0f), sum)), vf_all(1.0f));
        sum = vf_add(low, vf_max(vf_all(0.0f), sum));
    }
    if (s->addend)
        sum = vf_add(sum, vf_load(s->addend + c->slots[s->addend_slot] + row * s->addend_stride + at));
    vf_store(s->y + c->slots[s->y_slot] + row * s->y_stride + at, sum);
}

static void convolve_plain(const convolve_step *s, const call *c, const share *mine) {
    const float *tile = s->tiles + mine->tile * s->width * TILE;
    const float *x = s->x + c->slots[s->x_slot];
    for (int64_t first = mine->first; first < mine->stop; first += GROUP) {
        int rows = (int)(mine->stop - first < GROUP ? mine->stop - first : GROUP);
        float sums[GROUP][TILE];
        const float *row[GROUP];
        memset(sums, 0, sizeof sums);
        for (int r = 0; r < rows; r++) row[r] = x + (first + r) * s->x_stride;
        float_tile(rows, row, tile, s->width, sums);
        for (int r = 0; r < rows; r++)
            for (int64_t i = 0; i < mine->width; i += LANES)
                convolve_store(s, c, mine, first + r, i, vf_load(&sums[r][i]));
    }
}

static void convolve_folded(const convolve_step *s, const call *c, const share *mine) {
    const float *tile = s->tiles + mine->tile * POINTS * s->groups * s->width * TILE;
    int64_t d = s->distance, rows = c->slots[s->rows_slot];
    float sums[POINTS][CONVOLVE_ROWS][TILE];
    memset(sums, 0, sizeof sums);
    for (int64_t p = 0; p < POINTS; p++)
        for (int64_t g = 0; g < s->groups; g++, tile += s->width * TILE)
            for (int64_t first = mine->first; first < mine->stop; first += GROUP) {
                int count = (int)(mine->stop - first < GROUP ? mine->stop - first : GROUP);
                const float *row[GROUP];
                for (int r = 0; r < count; r++)
                    row[r] = s->x + p * s->point + (first + r + g * d) * s->width;
                float_tile(count, row, tile, s->width, &sums[p][first - mine->first]);
            }
    for (int64_t r = mine->first; r < mine->stop; r++) {
        int64_t begin = r / d * OUTPUTS * d + r % d;
        for (int64_t i = 0; i < mine->width; i += LANES) {
            vf m[POINTS], y[OUTPUTS];
            for (int p = 0; p < POINTS; p++) m[p] = vf_load(&sums[p][r - mine->first][i]);
            vf sum = vf_add(m[1], m[2]), difference = vf_sub(m[1], m[2]);
            vf sum2 = vf_add(m[3], m[4]), difference2 = vf_sub(m[3], m[4]);
            y[0] = vf_add(vf_add(m[0], m[5]), vf_add(sum, sum2));
            y[1] = vf_fma(difference2, vf_all(2.0f), vf_fma(m[5], vf_all(0.5f), difference));
            y[2] = vf_fma(sum2, vf_all(4.0f), vf_fma(m[5], vf_all(0.25f), sum));
            y[3] = vf_fma(difference2, vf_all(8.0f), vf_fma(m[5], vf_all(0.125f),
                                                            vf_add(difference, m[6])));
            for (int n = 0; n < OUTPUTS && begin + n * d < rows; n++)
                convolve_store(s, c, mine, begin + n * d, i, y[n]);
        }
    }
}

static void convolve_run(const int64_t *step, const call *c, int64_t task) {
    const convolve_step *s = (const convolve_step *)step;
    int64_t rows = convolve_rows(s, c), parts = (rows + CONVOLVE_ROWS - 1) / CONVOLVE_ROWS;
    /* parts of nearly equal size, so that no thread waits for the last one */
    int64_t size = ((rows + parts - 1) / parts + GROUP - 1) / GROUP * GROUP;
    share mine = {.tile = task / parts, .first = task % parts * size};
    mine.stop = mine.first + size < rows ? mine.first + size : rows;
    mine.width = s->columns - mine.tile * TILE < TILE ? s->columns - mine.tile * TILE : TILE;
    if (s->point)
        convolve_folded(s, c, &mine);
    else
        convolve_plain(s, c, &mine);
}
