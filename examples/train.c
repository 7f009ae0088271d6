/* train.c - what `quern train` does: a network from a recipe, trained, measured and kept in runs/.
 *
 *     train RECIPE [KEY=VALUE...] */
#include <quern.h>
#include <signal.h>
#include <stdio.h>

static volatile sig_atomic_t stop;

static void on_interrupt(int number)
{
    (void)number;
    stop = 1;
}

static int complain(const qn_recipe_errors *errors)
{
    for (int i = 0; i < errors->kept; i++) fprintf(stderr, "%s\n", errors->list[i].text);
    return errors->kept > 0 ? (int)qn_error_status(&errors->list[0]) : 2;
}

int main(int argc, char **argv)
{
    qn_error err = { 0 };
    qn_recipe_errors errors;
    qn_recipe *recipe = NULL;
    qn_trainer *trainer = NULL;
    qn_train_result result;
    if (argc < 2) {
        fprintf(stderr, "usage: train RECIPE [KEY=VALUE...]\n");
        return 2;
    }
    if (qn_recipe_load(&recipe, argv[1], (const char *const *)argv + 2, argc - 2, &errors)) return complain(&errors);
    signal(SIGINT, on_interrupt); /* the library installs no handler; it looks at the flag between steps */
    qn_trainer_opts opts = { .out = "runs", .fd = 2, .stop = &stop };
    qn_status status = qn_trainer_open(&trainer, recipe, &opts, &err);
    if (!status) status = qn_trainer_run(trainer, &result, &err);
    if (status == QN_STOPPED)
        fprintf(stderr, "stopped; %s holds everything to go on from\n", qn_trainer_run_dir(trainer));
    else if (status)
        fprintf(stderr, "%s\n", err.text);
    else
        printf("%s: best epoch %lld, validation loss %.4f\n", qn_trainer_run_dir(trainer), (long long)result.best_epoch,
               result.valid.loss);
    qn_trainer_free(trainer);
    qn_recipe_free(recipe);
    return (int)status;
}
