/* STEP_APPEND and STEP_CAUSAL: rotary positions and causal attention of a language model.
 *
 * Keys and values of a sequence live in segments of TILE positions, in half precision (what is too
 * large for it becomes its largest number), packed so that products read them as tiles. For each layer
 * and key head a segment holds: keys [size][position], then for every TILE columns of the values
 * [position][column]. New positions are appended in place; a segment that others read as well is copied
 * before (by Python).
 *
 * Rows are frames of all sequences (the branches), sequence after sequence. Every row meets the
 * positions up to its own, in the same order whatever else is computed beside it.
 */

typedef struct {
    int64_t kind;
    const float *qkv; /* (rows, (heads + 2 * key_heads) * size): queries, keys, values */
    int64_t stride;
    float *y;         /* (rows, heads * size); of STEP_CAUSAL only */
    int64_t y_stride;
    int64_t heads, key_heads, size; /* size: a multiple of 16, at most MOST_SIZE */
    int64_t layer;
    int64_t slot;     /* of the first word of what is described below */
    double scale;     /* of the scores */
} causal_step;

/* In the slot table from `slot` on: addresses of cosines and of sines, (positions, size / 2); then for
 * each sequence the position of its first new row, and the address of the addresses of its segments. */
enum { CAUSAL_COSINES, CAUSAL_SINES, CAUSAL_FIRST };

#define MOST_SIZE 256
#define MOST_TILES (MOST_SIZE / TILE)
#define CAUSAL_ROWS 8 /* of a task */

/* Where a key head's rows of a sequence are. */
typedef struct {
    int64_t position;
    const int64_t *segments;
    int64_t offset, size;
} causal_cache;

static causal_cache causal_find(const causal_step *s, const int64_t *slots, int64_t sequence,
                                int64_t head) {
    int64_t tiles = (s->size + TILE - 1) / TILE, unit = TILE * s->size + tiles * TILE * TILE;
    const int64_t *words = slots + CAUSAL_FIRST + 2 * sequence;
    return (causal_cache){words[0], (const int64_t *)(intptr_t)words[1],
                          (s->layer * s->key_heads + head) * unit, s->size};
}

static uint16_t *causal_keys(const causal_cache *cache, int64_t segment) {
    return (uint16_t *)(intptr_t)cache->segments[segment] + cache->offset;
}

static uint16_t *causal_values(const causal_cache *cache, int64_t segment, int64_t tile) {
    return causal_keys(cache, segment) + TILE * cache->size + tile * TILE * TILE;
}

/* Turns each feature of x with the one half a head on. */
static void rotate(const causal_step *s, const int64_t *slots, int64_t position, const float *x,
                   float scale, float *y) {
    int64_t half = s->size / 2;
    const float *cosine = (const float *)(intptr_t)slots[CAUSAL_COSINES] + position * half;
    const float *sine = (const float *)(intptr_t)slots[CAUSAL_SINES] + position * half;
    for (int64_t i = 0; i < half; i++) {
        float a = x[i], b = x[half + i];
        y[i] = (a * cosine[i] - b * sine[i]) * scale;
        y[half + i] = (b * cosine[i] + a * sine[i]) * scale;
    }
}

static int64_t append_tasks(const int64_t *step, const call *c) {
    return ((const causal_step *)step)->key_heads * c->slots[SLOT_BRANCHES];
}

static void append_run(const int64_t *step, const call *c, int64_t task) {
    const causal_step *s = (const causal_step *)step;
    const int64_t *slots = c->slots + s->slot;
    int64_t frames = c->slots[SLOT_FRAMES], sequence = task / s->key_heads;
    int64_t head = task % s->key_heads;
    causal_cache cache = causal_find(s, slots, sequence, head);
    const float *keys = s->qkv + sequence * frames * s->stride + (s->heads + head) * s->size;
    float turned[MOST_SIZE];
    uint16_t halves[MOST_SIZE];
    for (int64_t f = 0; f < frames; f++, keys += s->stride) {
        int64_t position = cache.position + f, segment = position / TILE, at = position % TILE;
        const float *values = keys + s->key_heads * s->size;
        uint16_t *column = causal_keys(&cache, segment) + at;
        rotate(s, slots, position, keys, 1.0f, turned);
        for (int64_t i = 0; i < s->size; i += LANES) vf_store_halves(halves + i, vf_load(turned + i));
        for (int64_t i = 0; i < s->size; i++) column[i * TILE] = halves[i];
        for (int64_t i = 0; i < s->size; i += LANES) {
            uint16_t *row = causal_values(&cache, segment, i / TILE) + at * TILE;
            vf_store_halves(row + i % TILE, vf_load(values + i));
        }
    }
}

static int64_t causal_tasks(const int64_t *step, const call *c) {
    int64_t chunks = (c->slots[SLOT_FRAMES] + CAUSAL_ROWS - 1) / CAUSAL_ROWS;
    return append_tasks(step, c) * chunks;
}

/* Scores of TILE positions to weights, which are not yet divided by their sum; those outside of
 * [begin, stop) are hidden. `peak` is the largest score of a row so far, `sum` that of its weights, in
 * parts. Returns the factor that brings what the row found before to the same peak. */
INLINE vf soften(float *score, int64_t begin, int64_t stop, float *peak, float *sum) {
    for (int64_t i = 0; i < begin; i++) score[i] = -INFINITY;
    for (int64_t i = stop; i < TILE; i++) score[i] = -INFINITY;
    vf most = vf_all(*peak);
    for (int v = 0; v < VECTORS; v++) most = vf_max(most, vf_load(score + v * LANES));
    float highest = vf_peak(most);
    vf shrink = vf_exp(vf_all(*peak - highest)), top = vf_all(highest);
    *peak = highest;
    for (int v = 0; v < VECTORS; v++)
        vf_store(score + v * LANES, vf_exp(vf_sub(vf_load(score + v * LANES), top)));
    for (int64_t i = 0; i < begin; i++) score[i] = 0.0f; /* exactly */
    for (int64_t i = stop; i < TILE; i++) score[i] = 0.0f;
    vf all = vf_mul(vf_load(sum), shrink);
    for (int v = 0; v < VECTORS; v++) all = vf_add(all, vf_load(score + v * LANES));
    vf_store(sum, all);
    return shrink;
}

/* A few queries that read the keys together, and what they have found so far. */
typedef struct {
    int count;
    int64_t last[GROUP];             /* position of each */
    float peak[GROUP];               /* largest score */
    float query[GROUP][MOST_SIZE];
    float weights[GROUP][TILE];      /* scores, then weights, of one segment */
    float sum[GROUP][LANES];         /* of weights, in parts */
    float result[MOST_TILES][GROUP][TILE];
} causal_group;

/* Adds a segment of positions to the results of a group. */
static void causal_segment(causal_group *g, const causal_cache *cache, int64_t segment) {
    int64_t tiles = (cache->size + TILE - 1) / TILE, most = 0;
    const float *row[GROUP];
    memset(g->weights, 0, sizeof g->weights);
    for (int r = 0; r < g->count; r++) row[r] = g->query[r];
    half_tile(g->count, row, causal_keys(cache, segment), cache->size, g->weights);
    for (int r = 0; r < g->count; r++) {
        float *score = g->weights[r];
        int64_t seen = g->last[r] + 1 - segment * TILE;
        seen = seen < 0 ? 0 : seen > TILE ? TILE : seen;
        most = seen > most ? seen : most;
        vf shrink = soften(score, 0, seen, &g->peak[r], g->sum[r]);
        for (int64_t t = 0; t < tiles; t++)
            for (int v = 0; v < VECTORS; v++) {
                float *place = g->result[t][r] + v * LANES;
                vf_store(place, vf_mul(vf_load(place), shrink));
            }
        row[r] = score;
    }
    for (int64_t t = 0; t < tiles; t++)
        half_tile(g->count, row, causal_values(cache, segment, t), most, g->result[t]);
}

static void causal_run(const int64_t *step, const call *c, int64_t task) {
    const causal_step *s = (const causal_step *)step;
    const int64_t *slots = c->slots + s->slot;
    int64_t frames = c->slots[SLOT_FRAMES], chunks = (frames + CAUSAL_ROWS - 1) / CAUSAL_ROWS;
    int64_t begin = task % chunks * CAUSAL_ROWS, head = task / chunks % s->key_heads;
    int64_t stop = begin + CAUSAL_ROWS < frames ? begin + CAUSAL_ROWS : frames;
    int64_t sequence = task / chunks / s->key_heads, share = s->heads / s->key_heads;
    causal_cache cache = causal_find(s, slots, sequence, head);
    causal_group g;
    int64_t pairs = (stop - begin) * share; /* of a frame and a head that reads these keys */
    for (int64_t first = 0; first < pairs; first += GROUP) {
        g.count = (int)(pairs - first < GROUP ? pairs - first : GROUP);
        memset(g.result, 0, sizeof g.result);
        memset(g.sum, 0, sizeof g.sum);
        for (int r = 0; r < g.count; r++) {
            int64_t frame = begin + (first + r) / share, reader = head * share + (first + r) % share;
            const float *x = s->qkv + (sequence * frames + frame) * s->stride + reader * s->size;
            g.last[r] = cache.position + frame;
            g.peak[r] = -INFINITY;
            rotate(s, slots, g.last[r], x, (float)s->scale, g.query[r]);
        }
        for (int64_t n = 0; n * TILE <= g.last[g.count - 1]; n++) causal_segment(&g, &cache, n);
        for (int r = 0; r < g.count; r++) {
            int64_t frame = begin + (first + r) / share, reader = head * share + (first + r) % share;
            float *y = s->y + (sequence * frames + frame) * s->y_stride + reader * s->size;
            vf scale = vf_all(1.0f / vf_sum(vf_load(g.sum[r])));
            for (int64_t i = 0; i < s->size; i += LANES)
                vf_store(y + i, vf_mul(vf_load(&g.result[i / TILE][r][i % TILE]), scale));
        }
    }
}
