/* run_dir.h - the directory of a run. Private to train/. */
#ifndef QN_TRAIN_RUN_DIR_H
#define QN_TRAIN_RUN_DIR_H
#include "../include/quern/train.h"

enum { QN_PATH_MAX = 4096 };

/* Makes OUT/NAME-N with the lowest N that does not exist; race-free. */
qn_status qn__run_dir_make(char out[QN_PATH_MAX], const char *parent, const char *name, qn_error *err);
/* recipe.json (resolved) and versions.json into the run's directory; or the recipe alone. */
qn_status qn__run_dir_describe(const char *dir, const qn_recipe *recipe, const char *device, int threads,
                               qn_error *err);
qn_status qn__run_dir_recipe(const char *dir, const qn_recipe *recipe, qn_error *err);
/* result.json: what came out of the run. */
qn_status qn__run_dir_result(const char *dir, const qn_train_result *result, qn_error *err);
/* "dir/name"; E6001 if it does not fit. */
qn_status qn__path_join(char out[QN_PATH_MAX], const char *dir, const char *name, qn_error *err);
#endif
