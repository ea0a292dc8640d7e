/* STEP_PRODUCT and STEP_EXACT: rows times a packed matrix, plus bias, plus what is there already.
 *
 * With more than one tap, a row is followed by its neighbours: the products of a causal convolution,
 * whose input lies branch after branch with `taps - 1` frames before the first one.
 */

typedef struct {
    int64_t kind;
    const void *x;          /* int8 codes or floats (rows, width) */
    const float *scales;    /* of the codes, (rows, blocks); unused in float32 */
    const int32_t *totals;
    const void *tiles;      /* packed matrix: for every tap, the steps of all blocks */
    const void *tile_scales; /* (tiles, taps * blocks, TILE): halves where a tap has several blocks */
    const float *bias;      /* (columns,) up to a multiple of TILE, or NULL */
    float *y;
    int64_t y_stride, y_pad;
    const float *addend;    /* added to the result, laid out as y without padding; or NULL */
    int64_t addend_stride;
    int64_t width, block, taps, columns;
    int64_t x_pad;          /* rows of padding in x before a branch's frames; taps - 1 or more */
    int64_t x_stride;       /* elements from row to row */
    int64_t group;          /* 0, or elements of x that a tile reads: those of its own group */
    int64_t gate_slot;      /* slot with an address of (columns,) floats that the result is
                               multiplied by before the addend comes; 0 = none */
    int64_t gate_offset;    /* floats into them */
    double unit;            /* what tile_scales in halves count: a power of two */
} product_step;

#define GROUPS_PER_TASK 8

static int64_t product_tasks(const int64_t *step, const call *c) {
    const product_step *s = (const product_step *)step;
    int64_t rows = c->slots[SLOT_FRAMES] * c->slots[SLOT_BRANCHES];
    int64_t tiles = (s->columns + TILE - 1) / TILE;
    int64_t parts = (rows + GROUP * GROUPS_PER_TASK - 1) / (GROUP * GROUPS_PER_TASK);
    return tiles * parts;
}

/* Which rows and columns a task has. */
typedef struct {
    int64_t tile, first, stop, width;
} share;

static share product_share(const product_step *s, const call *c, int64_t task) {
    int64_t rows = c->slots[SLOT_FRAMES] * c->slots[SLOT_BRANCHES], size = GROUP * GROUPS_PER_TASK;
    int64_t parts = (rows + size - 1) / size;
    /* parts of nearly equal size, so that no thread waits for the last one */
    size = ((rows + parts - 1) / parts + GROUP - 1) / GROUP * GROUP;
    share mine = {.tile = task / parts, .first = task % parts * size};
    mine.stop = mine.first + size < rows ? mine.first + size : rows;
    mine.width = s->columns - mine.tile * TILE < TILE ? s->columns - mine.tile * TILE : TILE;
    return mine;
}

/* Where the rows of a group go from `first` on. */
static tile_end product_end(const product_step *s, const call *c, const share *mine, int64_t first,
                            int rows) {
    int64_t frames = c->slots[SLOT_FRAMES], column = mine->tile * TILE;
    tile_end end = {.width = mine->width};
    if (s->bias) end.bias = s->bias + column;
    if (s->gate_slot)
        end.gate = (const float *)(intptr_t)c->slots[s->gate_slot] + s->gate_offset + column;
    for (int r = 0; r < rows; r++) {
        end.y[r] = s->y + padded_row(first + r, frames, s->y_pad) * s->y_stride + column;
        if (s->addend) end.addend[r] = s->addend + (first + r) * s->addend_stride + column;
    }
    return end;
}

static void product_store(int rows, const float (*sums)[TILE], const tile_end *end) {
    for (int r = 0; r < rows; r++)
        for (int64_t i = 0; i < end->width; i += LANES) {
            vf sum = vf_load(sums[r] + i);
            if (end->bias) sum = vf_add(sum, vf_load(end->bias + i));
            if (end->gate) sum = vf_mul(sum, vf_load(end->gate + i));
            if (end->addend[r]) sum = vf_add(sum, vf_load(end->addend[r] + i));
            vf_store(end->y[r] + i, sum);
        }
}

/* One tap, one scale for a row. */
static void product_only(const product_step *s, const call *c, const share *mine) {
    int64_t frames = c->slots[SLOT_FRAMES], steps = (s->width + 3) / 4;
    const uint8_t *tile = (const uint8_t *)s->tiles + mine->tile * steps * TILE * 4;
    int64_t scales = s->group ? s->x_stride / s->block : 1;
    int64_t own = s->group ? mine->tile * s->group / s->block : 0;
    for (int64_t first = mine->first; first < mine->stop; first += GROUP) {
        int rows = (int)(mine->stop - first < GROUP ? mine->stop - first : GROUP);
        const uint8_t *row[GROUP];
        int32_t start[GROUP];
        float scale[GROUP];
        for (int r = 0; r < rows; r++) {
            int64_t at = padded_row(first + r, frames, s->x_pad);
            row[r] = (const uint8_t *)s->x + at * s->x_stride + mine->tile * s->group;
            start[r] = -128 * s->totals[at * scales + own];
            scale[r] = s->scales[at * scales + own];
        }
        const tile_end end = product_end(s, c, mine, first, rows);
        const float *columns = (const float *)s->tile_scales + mine->tile * TILE;
        only_tile(rows, row, tile, steps, start, scale, columns, &end);
    }
}

static void product_run(const int64_t *step, const call *c, int64_t task) {
    const product_step *s = (const product_step *)step;
    const share mine = product_share(s, c, task);
    int64_t frames = c->slots[SLOT_FRAMES];
    if (s->taps == 1 && s->block >= s->width) {
        product_only(s, c, &mine);
        return;
    }
    int64_t blocks = (s->width + s->block - 1) / s->block, steps = 0;
    for (int64_t b = 0; b < blocks; b++) {
        int64_t size = s->width - b * s->block < s->block ? s->width - b * s->block : s->block;
        steps += (size + 3) / 4;
    }
    const uint8_t *tile = (const uint8_t *)s->tiles + mine.tile * s->taps * steps * TILE * 4;
    int halves = blocks > 1;
    int64_t per_block = TILE * (halves ? sizeof(uint16_t) : sizeof(float));
    const char *tile_scales = (const char *)s->tile_scales + mine.tile * s->taps * blocks * per_block;
    float unit = (float)s->unit;
    /* where a tile reads its group only, the others' scales lie between */
    int64_t scales = s->group ? s->x_stride / s->block : blocks;
    int64_t own = s->group ? mine.tile * s->group / s->block : 0;
    const uint8_t *row[GROUP] = {0}; /* as some compilers do not see that there are rows */
    int32_t start[GROUP] = {0};
    float scale[GROUP] = {0};
    for (int64_t first = mine.first; first < mine.stop; first += GROUP) {
        int rows = (int)(mine.stop - first < GROUP ? mine.stop - first : GROUP);
        int64_t place[GROUP];
        float result[GROUP][TILE];
        for (int r = 0; r < rows; r++) {
            place[r] = padded_row(first + r, frames, s->x_pad) - (s->taps - 1);
            memset(result[r], 0, sizeof result[r]);
        }
        const uint8_t *weights = tile;
        const char *columns = tile_scales;
        for (int64_t tap = 0; tap < s->taps; tap++)
            for (int64_t b = 0; b < blocks; b++, columns += per_block) {
                int64_t from = b * s->block;
                int64_t size = s->width - from < s->block ? s->width - from : s->block;
                for (int r = 0; r < rows; r++) {
                    int64_t at = place[r] + tap;
                    row[r] = (const uint8_t *)s->x + at * s->x_stride + mine.tile * s->group + from;
                    start[r] = -128 * s->totals[at * scales + own + b];
                    scale[r] = s->scales[at * scales + own + b] * unit;
                }
                block_tile(rows, row, weights, (size + 3) / 4, start, scale, columns, halves, result);
                weights += (size + 3) / 4 * TILE * 4;
            }
        const tile_end end = product_end(s, c, &mine, first, rows);
        product_store(rows, result, &end);
    }
}

static void exact_run(const int64_t *step, const call *c, int64_t task) {
    const product_step *s = (const product_step *)step;
    const share mine = product_share(s, c, task);
    int64_t frames = c->slots[SLOT_FRAMES];
    const float *tile = (const float *)s->tiles + mine.tile * s->taps * s->width * TILE;
    for (int64_t first = mine.first; first < mine.stop; first += GROUP) {
        int rows = (int)(mine.stop - first < GROUP ? mine.stop - first : GROUP);
        float sums[GROUP][TILE];
        memset(sums, 0, sizeof sums);
        for (int64_t tap = 0; tap < s->taps; tap++) {
            const float *row[GROUP];
            for (int r = 0; r < rows; r++) {
                int64_t at = padded_row(first + r, frames, s->x_pad) - (s->taps - 1) + tap;
                row[r] = (const float *)s->x + at * s->x_stride + mine.tile * s->group;
            }
            float_tile(rows, row, tile + tap * s->width * TILE, s->width, sums);
        }
        const tile_end end = product_end(s, c, &mine, first, rows);
        product_store(rows, sums, &end);
    }
}
