/* search.h - hyper-parameter search: a recipe trained with settings from a space, ranked on its validation part.
 *
 * A space is JSON with comments: key paths as for --set, each with the values to try.
 *
 *     { "optimizer.lr": { "log": [1e-4, 1e-1] },          // log-uniform
 *       "optimizer.momentum": { "uniform": [0, 0.99] },
 *       "model[0].linear": [64, 128, 256] }               // one of these; numbers, texts, true and false
 *
 * Trial 0 is always the recipe as it is. The settings of trial k follow from (seed, key path, k) alone, so a search
 * that was stopped or killed goes on with the trials that are missing. A search is a directory OUT/NAME-search-N:
 *
 *     search.json   recipe, method, seed and space       trials.csv    a line per trial that has ended
 *     search.png    value over trial                      search-KEY.png value over each range that was searched
 *     trials/       the runs                                                                                      */
#ifndef QUERN_SEARCH_H
#define QUERN_SEARCH_H
#include "checkpoint.h" /* qn_report */
#include "train.h"
#ifdef __cplusplus
extern "C" {
#endif

/* GRID: every combination in turn (ranges need "steps"). RANDOM (Bergstra, Bengio 2012). HALVING: as RANDOM, but all
 * trials get a small number of epochs, the better third three times as many, and so on up to the recipe's epochs:
 * successive halving (Jamieson, Talwalkar 2016) with eta = 3, in the form of one bracket of Hyperband (Li et al. 2018,
 * algorithm 1). With n trials and R epochs in the recipe, s = min(floor(log_3 n), floor(log_3 R)) and rung i = 0..s has
 * floor(n / 3^i) trials of floor(R / 3^(s - i)) epochs. A rung trains its trials anew, as recipes of so many epochs,
 * so that schedules which end with the last epoch (cosine, one_cycle, linear) do so in each; times that are given in
 * epochs (warm-up, "at", "every") stay what they are. What is compared is the best epoch, as of any other run. */
typedef enum qn_search_method { QN_SEARCH_GRID, QN_SEARCH_RANDOM, QN_SEARCH_HALVING } qn_search_method;

typedef struct qn_search_opts {
    const char *recipe, *space; /* files                                               */
    const char *const *sets;    /* [n_sets] changes to the recipe, as for qn_recipe_load */
    int n_sets;
    qn_search_method method;
    int64_t trials; /* besides the recipe itself; 0: 20, or the whole grid  */
    uint64_t seed;
    const char *out;    /* NULL: "runs"                                         */
    const char *resume; /* a search's directory; NULL: a new one                 */
    const char *device; /* of both, as qn_trainer_opts                           */
    int threads;
    const volatile sig_atomic_t *stop;
    qn_report *report; /* a line per trial; may be NULL                         */
    void *user;
} qn_search_opts;

typedef struct qn_search_result {
    char dir[4096];
    int64_t trials;           /* that have ended, with however many epochs, the recipe itself included */
    char metric[32];          /* what was compared, on the validation part          */
    double value, best_value; /* of the recipe as it is; of the best trial          */
    int64_t best;             /* 0: nothing beats the recipe                        */
    char settings[2048];      /* of the best trial: "--set=KEY=VALUE ..."           */
} qn_search_result;

/* QN_STOPPED when asked to stop: what has ended is kept. E2101..E2112 the space or the recipe (errors->list, with line
 * and column), E2001 a directory of another search, and those of training. A trial that fails numerically (E9xxx)
 * counts as the worst. errors must not be NULL. */
QN_API QN_CHECKED qn_status qn_search_run(const qn_search_opts *opts, qn_search_result *out, qn_recipe_errors *errors);

#ifdef __cplusplus
}
#endif
#endif
