/* STEP_RELATIVE: new positions attend to each other and to everything before, by content and by the
 * distance between query and key: score = (q + content) . k + (q + position) . d, where d belongs to
 * the distance (Dai et al. 2019). There is no mask.
 *
 * Keys and values live in segments of TILE positions, in float32, packed so that products read them as
 * tiles. For each layer, branch and head a segment holds: keys [size][position], values
 * [position][TILE]. The vectors of distances are packed like keys, in tiles that hold them for each
 * layer and head: one column on is a key one position later. The slots from `slot` on are those of
 * STEP_ATTEND.
 */

typedef struct {
    int64_t kind;
    const float *qkv;    /* (rows, 3 * heads * size): queries, keys, values */
    int64_t stride;
    float *y;            /* (rows, heads * size) */
    int64_t y_stride;
    int64_t heads, size; /* size: a multiple of 16, at most TILE */
    int64_t layer;
    int64_t slot;
    int64_t distance_slot; /* of the first word of what is described below */
    const float *content, *position; /* (heads * size,) */
    double scale;        /* of the scores */
} relative_step;

/* From `distance_slot` on: the address of the addresses of the tiles of distances, and the column of a
 * key that is at the position of the query. */
enum { DISTANCE_ADDRESS, DISTANCE_ORIGIN };

#define MOST_RELATIVE 256 /* segments */

static int64_t relative_unit(const relative_step *s) { return TILE * s->size + TILE * TILE; }

static int64_t relative_tasks(const int64_t *step, const call *c) {
    return ((const relative_step *)step)->heads * c->slots[SLOT_BRANCHES];
}

/* A few queries that read the keys together, and what they have found so far. */
typedef struct {
    int count;
    float content[GROUP][TILE], position[GROUP][TILE]; /* the queries, scaled */
    float by_distance[GROUP][(MOST_RELATIVE + 2) * TILE];
    float peak[GROUP], sum[GROUP][LANES], result[GROUP][TILE];
} relative_group;

static float *relative_place(const int64_t *slots, int64_t segment, int64_t offset) {
    return (float *)(intptr_t)slots[ATTEND_FIRST + 2 * segment] + offset;
}

/* Scores by distance for keys at all positions, of queries that begin at `place`. Returns the column
 * of the first key for the first query; for every later one it is a column earlier. */
static int64_t relative_distances(const relative_step *s, const call *c, int64_t head, int64_t place,
                                  relative_group *g) {
    const int64_t *slots = c->slots + s->slot, *words = c->slots + s->distance_slot;
    int64_t first = (words[DISTANCE_ORIGIN] - place - (g->count - 1)) / TILE;
    int64_t last = (words[DISTANCE_ORIGIN] + slots[ATTEND_SEGMENTS] * TILE - 1 - place) / TILE;
    const int64_t *tiles = (const int64_t *)(intptr_t)words[DISTANCE_ADDRESS];
    int64_t offset = (s->layer * s->heads + head) * s->size * TILE;
    const float *row[GROUP];
    for (int r = 0; r < g->count; r++) row[r] = g->position[r];
    for (int64_t t = first; t <= last; t++) {
        float sums[GROUP][TILE];
        memset(sums, 0, sizeof sums);
        float_tile(g->count, row, (const float *)(intptr_t)tiles[t] + offset, s->size, sums);
        for (int r = 0; r < g->count; r++)
            memcpy(g->by_distance[r] + (t - first) * TILE, sums[r], sizeof sums[r]);
    }
    return words[DISTANCE_ORIGIN] - place - first * TILE;
}

/* Adds a segment of positions to the results of a group. */
static void relative_segment(const int64_t *slots, int64_t offset, int64_t size, int64_t n,
                             int64_t column, relative_group *g) {
    int64_t ends = slots[ATTEND_FIRST + 2 * n + 1], begin = ends >> 32, stop = ends & 0xffffffff;
    if (begin >= stop) return;
    const float *keys = relative_place(slots, n, offset), *row[GROUP];
    float scores[GROUP][TILE];
    memset(scores, 0, sizeof scores);
    for (int r = 0; r < g->count; r++) row[r] = g->content[r];
    float_tile(g->count, row, keys, size, scores);
    for (int r = 0; r < g->count; r++) {
        const float *more = g->by_distance[r] + column - r + n * TILE;
        for (int v = 0; v < TILE; v += LANES)
            vf_store(scores[r] + v, vf_add(vf_load(scores[r] + v), vf_load(more + v)));
        vf shrink = soften(scores[r], begin, stop, &g->peak[r], g->sum[r]);
        for (int v = 0; v < TILE; v += LANES)
            vf_store(g->result[r] + v, vf_mul(vf_load(g->result[r] + v), shrink));
        row[r] = scores[r];
    }
    float_tile(g->count, row, keys + TILE * size, stop, g->result);
}

static void relative_append(const relative_step *s, const int64_t *slots, int64_t offset,
                            int64_t frames, const float *row) {
    int64_t segment = slots[ATTEND_SEGMENT], at = slots[ATTEND_POSITION], inner = s->heads * s->size;
    for (int64_t f = 0; f < frames; f++, row += s->stride) {
        float *keys = relative_place(slots, segment, offset);
        for (int64_t i = 0; i < s->size; i++) keys[i * TILE + at] = row[inner + i];
        memcpy(keys + TILE * (s->size + at), row + 2 * inner, s->size * sizeof *row);
        if (++at == TILE) at = 0, segment++;
    }
}

static void relative_run(const int64_t *step, const call *c, int64_t task) {
    const relative_step *s = (const relative_step *)step;
    const int64_t *slots = c->slots + s->slot;
    int64_t frames = c->slots[SLOT_FRAMES], branch = task / s->heads, head = task % s->heads;
    int64_t offset = ((s->layer * c->slots[SLOT_BRANCHES] + branch) * s->heads + head) * relative_unit(s);
    const float *rows = s->qkv + branch * frames * s->stride + head * s->size;
    relative_append(s, slots, offset, frames, rows);
    int64_t place = slots[ATTEND_SEGMENT] * TILE + slots[ATTEND_POSITION];
    vf scale = vf_all((float)s->scale);
    relative_group g;
    for (int64_t first = 0; first < frames; first += GROUP) {
        g.count = (int)(frames - first < GROUP ? frames - first : GROUP);
        memset(g.sum, 0, sizeof g.sum);
        memset(g.result, 0, sizeof g.result);
        for (int r = 0; r < g.count; r++) {
            const float *query = rows + (first + r) * s->stride;
            for (int64_t i = 0; i < s->size; i += LANES) {
                vf x = vf_load(query + i), content = vf_load(s->content + head * s->size + i);
                vf position = vf_load(s->position + head * s->size + i);
                vf_store(g.content[r] + i, vf_mul(vf_add(x, content), scale));
                vf_store(g.position[r] + i, vf_mul(vf_add(x, position), scale));
            }
            g.peak[r] = -INFINITY;
        }
        int64_t column = relative_distances(s, c, head, place + first, &g);
        for (int64_t n = 0; n < slots[ATTEND_SEGMENTS]; n++)
            relative_segment(slots, offset, s->size, n, column, &g);
        for (int r = 0; r < g.count; r++) {
            float *y = s->y + (branch * frames + first + r) * s->y_stride + head * s->size;
            vf share = vf_all(1.0f / vf_sum(vf_load(g.sum[r])));
            for (int64_t i = 0; i < s->size; i += LANES)
                vf_store(y + i, vf_mul(vf_load(g.result[r] + i), share));
        }
    }
}
