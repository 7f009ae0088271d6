/* training.h - running a recipe from the command line: signals, device, what is said at the end. */
#ifndef QN_CLI_TRAINING_H
#define QN_CLI_TRAINING_H
#include "cli.h"
#include "../include/quern/train.h"

/* Loads a recipe with the options that change it (--set, --seed, --epochs); prints its mistakes. 0, or the
 * exit code. */
int cli_load_recipe(qn_recipe **out, const char *path, const struct options *o);

/* Makes o->device the name of a device that is there: of --device, or of `otherwise` where that is not given. "auto"
 * says on stderr what it chose (unless quiet). 0, or the exit code: E7001, E7002. */
int cli_choose_device(struct options *o, const char *otherwise, bool quiet);

/* The first SIGINT, SIGTERM, SIGUSR1 or SIGHUP sets the flag; a second SIGINT ends the process at once (130). */
const volatile sig_atomic_t *cli_stop_flag(void);

/* Trains, tells what came out; 0, 75 or the exit code of the error. result may be NULL. run_dir (may be NULL) receives
 * the run's directory. */
int cli_train_recipe(const qn_recipe *r, const struct options *o, const char *resume, qn_train_result *result,
                     char *run_dir, size_t size);
/* The same without a word on stdout. */
int cli_train_silently(const qn_recipe *r, const struct options *o, const char *resume, qn_train_result *result,
                       char *run_dir, size_t size);

/* The highest N of PARENT/NAME-N; with `recipe`, of the runs that have a checkpoint and this text as recipe.json.
 * false if there is none. */
bool cli_find_run(char *out, size_t size, const char *parent, const char *name, const char *recipe);

/* Cross-validation with o->folds runs, or those that are there already where o->resume is given: each held-out result,
 * their mean and standard deviation. */
int cli_train_folds(const char *path, const struct options *o);

/* Operators of a profiled program, the one that took longest first. */
void cli_print_profile(const qn_program *p, FILE *out);
#endif
