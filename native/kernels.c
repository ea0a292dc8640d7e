/* The kernels, compiled once for every instruction set (see the definitions in vector.h). */

#include "mynah.h"
#include "product.h"
#include "sine.h"
#include "vector.h"

#include "steps_rows.h"

#include "steps_product.h"

#include "steps_attend.h"

#include "steps_context.h"

#include "steps_causal.h"

#include "steps_convolve.h"

#include "steps_double.h"

#include "steps_signal.h"

#include "steps_rotate.h"

#include "steps_relative.h"

const kernel_set MYNAH_KERNELS = {
    .name = MYNAH_NAME,
    .lanes = LANES,
    .steps = {
        [STEP_ROWS] = {rows_tasks, rows_run},
        [STEP_PRODUCT] = {product_tasks, product_run},
        [STEP_EXACT] = {product_tasks, exact_run},
        [STEP_ATTEND] = {attend_tasks, attend_run},
        [STEP_CONTEXT] = {context_tasks, context_run},
        [STEP_CAUSAL] = {causal_tasks, causal_run},
        [STEP_APPEND] = {append_tasks, append_run},
        [STEP_FOLD] = {fold_tasks, fold_run},
        [STEP_CONVOLVE] = {convolve_tasks, convolve_run},
        [STEP_DOUBLE] = {double_tasks, double_run},
        [STEP_KEEP] = {keep_tasks, keep_run},
        [STEP_JOIN] = {join_tasks, join_run},
        [STEP_SPECTRUM] = {spectrum_tasks, spectrum_run},
        [STEP_ROTATE] = {rotate_tasks, rotate_run},
        [STEP_RELATIVE] = {relative_tasks, relative_run},
    },
};
