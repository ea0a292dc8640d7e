/* STEP_DOUBLE: as STEP_CONVOLVE, without folding and addend, in double precision.
 *
 * A double takes two floats: offsets, strides and the width count floats as everywhere.
 */

#define DOUBLES 8 /* of a vector; compilers make of it what the machine has */
#define DOUBLE_TILE (2 * DOUBLES)
#define DOUBLE_GROUP 4
#define DOUBLE_ROWS 32

typedef double vd __attribute__((vector_size(8 * DOUBLES)));

static int64_t double_parts(const convolve_step *s, const call *c) {
    return (c->slots[s->rows_slot] + DOUBLE_ROWS - 1) / DOUBLE_ROWS;
}

static int64_t double_tasks(const int64_t *step, const call *c) {
    const convolve_step *s = (const convolve_step *)step;
    return (s->columns + DOUBLE_TILE - 1) / DOUBLE_TILE * double_parts(s, c);
}

/* Rows that do not exist are computed as copies of the last one. */
static void double_group(const convolve_step *s, const call *c, int64_t tile, int64_t first,
                         int64_t rows) {
    int64_t steps = s->width / 2;
    const float *x = s->x + c->slots[s->x_slot];
    const vd *weight = (const vd *)(const void *)s->tiles + tile * steps * 2;
    const vd *bias = (const vd *)(const void *)s->bias + tile * 2;
    const double *row[DOUBLE_GROUP];
    vd sum[DOUBLE_GROUP][2];
    for (int r = 0; r < DOUBLE_GROUP; r++) {
        row[r] = (const double *)(const void *)(x + (first + (r < rows ? r : rows - 1)) * s->x_stride);
        sum[r][0] = bias[0];
        sum[r][1] = bias[1];
    }
    for (int64_t k = 0; k < steps; k++, weight += 2)
#pragma GCC unroll 4
        for (int r = 0; r < DOUBLE_GROUP; r++) {
            sum[r][0] += weight[0] * row[r][k];
            sum[r][1] += weight[1] * row[r][k];
        }
    double *y = (double *)(void *)(s->y + c->slots[s->y_slot] + first * s->y_stride);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < DOUBLE_TILE && tile * DOUBLE_TILE + i < s->columns; i++) {
            double value = sum[r][i / DOUBLES][i % DOUBLES];
            if (s->act == CONVOLVE_ELU && value < 0) value = exp(value) - 1;
            y[r * s->y_stride / 2 + tile * DOUBLE_TILE + i] = value;
        }
}

static void double_run(const int64_t *step, const call *c, int64_t task) {
    const convolve_step *s = (const convolve_step *)step;
    int64_t parts = double_parts(s, c), rows = c->slots[s->rows_slot];
    int64_t first = task % parts * DOUBLE_ROWS, stop = first + DOUBLE_ROWS;
    for (; first < rows && first < stop; first += DOUBLE_GROUP) {
        int64_t left = rows - first;
        double_group(s, c, task / parts, first, left < DOUBLE_GROUP ? left : DOUBLE_GROUP);
    }
}
