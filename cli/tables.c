/* tables.c - the options of every command. */
#include "cli.h"
#include <stddef.h>

static const char *const dtypes[] = { "f32", "bf16", "f16", NULL };
static const char *const methods[] = { "grid", "random", "halving", NULL };
static const char *const averages[] = { "mean", "vote", "weighted", NULL };

#define AT(member) offsetof(struct options, member)
#define SET \
    { \
        "set", 's', "KEY=VALUE", OPTION_TEXTS, AT(set), 0, 0, NULL, \
            "Replace a value of the recipe: optimizer.lr=3e-4, model[0].conv=64; may be repeated" \
    }
#define DEVICE \
    { \
        "device", 'd', "NAME", OPTION_TEXT, AT(device), 0, 0, NULL, "auto, cpu, cuda or cuda:N" \
    }
#define THREADS \
    { \
        "threads", 't', "N", OPTION_INT, AT(threads), 1, 1024, NULL, "CPU threads; default: one per core" \
    }
#define SEED(what) \
    { \
        "seed", 0, "N", OPTION_INT, AT(seed), 0, 9007199254740991, NULL, what \
    }
#define BATCH \
    { \
        "batch", 'b', "N", OPTION_INT, AT(batch), 1, 1048576, NULL, "Samples computed at once" \
    }
#define OUT(what, doc) \
    { \
        "out", 'o', what, OPTION_TEXT, AT(out), 0, 0, NULL, doc \
    }
#define DATA \
    { \
        "data", 0, "PATH", OPTION_TEXT, AT(data), 0, 0, NULL, "Directory or file with other data than the model's own" \
    }
#define QUIET \
    { \
        "quiet", 'q', NULL, OPTION_FLAG, AT(quiet), 0, 0, NULL, "No progress, only results" \
    }
#define JSON(doc) \
    { \
        "json", 'j', NULL, OPTION_FLAG, AT(json), 0, 0, NULL, doc \
    }
#define RESUME(doc) \
    { \
        "resume", 'r', "DIR", OPTION_MAYBE, AT(resume), 0, 0, NULL, doc \
    }
#define COMMAND(name_, summary_, args_, min_, max_, doc_) \
    const struct command cli_##name_ = { .name = #name_, \
                                         .summary = summary_, \
                                         .args = args_, \
                                         .option = name_##_options, \
                                         .n_options = (int)(sizeof name_##_options / sizeof *name_##_options), \
                                         .min_args = min_, \
                                         .max_args = max_, \
                                         .doc = doc_ };

static const struct option_row train_options[] = {
    SET,
    DEVICE,
    THREADS,
    SEED("Instead of the recipe's"),
    { "epochs", 'e', "N", OPTION_INT, AT(epochs), 1, 1000000, NULL,
      "Instead of the recipe's; with --resume: where the run ends now, longer or shorter" },
    { "folds", 'f', "K", OPTION_INT, AT(folds), 2, 100, NULL,
      "Cross-validation: train K times, each time with another K-th of the training part held out" },
    RESUME("Go on with the run in DIR, or with the latest of this recipe; with --folds: with all of them"),
    OUT("DIR", "Where runs are kept; default: runs"),
    { "check-finite", 0, NULL, OPTION_FLAG, AT(check_finite), 0, 0, NULL,
      "Look at every result and stop at the first that is not finite, naming the operator" },
    { "profile", 0, NULL, OPTION_FLAG, AT(profile), 0, 0, NULL, "Time each operator; table at the end" },
    { "tuning", 0, "FILE", OPTION_TEXT, AT(tuning), 0, 0, NULL,
      "Take the algorithms of cuBLASLt and cuDNN that quern tune has written there; default: the first that they "
      "propose" },
    QUIET,
    JSON("Print the result as one JSON object"),
};
COMMAND(train, "train the network of a recipe", "RECIPE", 0, 1,
        "Trains the network that RECIPE describes and writes OUT/NAME-N/: the resolved recipe, the versions, the log, "
        "the best and the last checkpoint. An existing run is never overwritten. Ctrl-C saves the state and ends with "
        "75; --resume goes on bit for bit, with the run's own recipe: --set and --seed are refused then, and with "
        "--resume=DIR there need be no RECIPE. --epochs may "
        "lengthen a run, also one that has ended, unless its schedule (cosine, one_cycle, linear) or early stopping "
        "has brought it to its end; what comes out is what so many epochs from the beginning would have led to. With "
        "--folds every run is kept like any other, and the held-out results, of each run's best epoch, are printed "
        "with their mean and standard deviation; interrupted, the same command with --resume goes on: folds that have "
        "ended are only measured again.")

static const struct option_row eval_options[] = {
    DATA, SET, OUT("FILE", "Draw the confusion matrix into FILE, a PNG"), DEVICE, THREADS, JSON("Print JSON"),
};
COMMAND(eval, "measure a trained model on test data", "MODEL", 1, 1,
        "Loss and metrics of MODEL, a checkpoint or a run's directory, on the test part of its data; on the validation "
        "part where there is none. With --data: on a table, on a directory with the test images of a named set, or on "
        "one with a folder of PNGs per class.")

static const struct option_row predict_options[] = {
    { "top", 'k', "N", OPTION_INT, AT(top), 1, 1000, NULL, "How many classes to list; default: 3" },
    DEVICE,
    THREADS,
    BATCH,
    OUT("FILE", "Write to FILE instead of stdout"),
};
COMMAND(predict, "apply a trained model to files", "MODEL INPUT...", 2, 1 << 20,
        "Prints one JSON object per sample. INPUT is a .png image (converted to the size and channels that the model "
        "reads), a .csv table, a .txt with one sample per line, a .npy array of one sample or many, or - for standard "
        "input: rows of numbers or of the table, or a PNG or .npy file. Numbers are in the units of the training data; "
        "a pixel is 0..255. A first line that names columns is taken as such; rows without names have the columns of "
        "the training file, or nothing but the features, in its order. The checkpoint carries recipe, class names and "
        "normalisation. The first input that cannot be read ends the command; those before it have been answered.")

static const struct option_row plan_options[] = {
    SET,
    BATCH,
    { "gpu", 'g', "NAME", OPTION_TEXT, AT(gpu), 0, 0, NULL,
      "Plan for a GPU of gpus/*.json: a100, h100, b200, rtx4090" },
    { "verify", 0, NULL, OPTION_FLAG, AT(verify), 0, 0, NULL,
      "Also run three steps: compare planned with used bytes, count allocations, compare with a run without plan" },
    THREADS,
    JSON("Print JSON"),
};
COMMAND(plan, "what a recipe will cost, before anything is allocated", "RECIPE", 1, 1,
        "FLOPs, bytes by class, a table of operators with arithmetic intensity, and the largest batch that fits into "
        "the memory there is. With --gpu: what the plan takes on that GPU, and a lower bound on its time, from the "
        "description alone.")

static const struct option_row check_options[] = {
    SET,
    THREADS,
    { "quiet", 'q', NULL, OPTION_FLAG, AT(quiet), 0, 0, NULL, "Only warnings and errors" },
    JSON("Print JSON"),
};
COMMAND(check, "look for trouble before training", "RECIPE", 1, 1,
        "Decodes every sample and checks label ranges, balance of the classes, empty splits, disk, memory and where "
        "the schedule ends. Prints one line per finding that begins with ok, warn or error; ends with the exit code of "
        "the first error, or 0.")

static const struct option_row show_options[] = {
    SET,
    { "pass", 'p', "NAME", OPTION_TEXT, AT(pass), 0, 0, NULL,
      "The graph after this pass: graph, dead, fold, cse, epilogue, residual, fuse or layout" },
    { "svg", 0, "FILE", OPTION_TEXT, AT(svg), 0, 0, NULL, "Draw the graph after --pass, or the last, into FILE" },
    JSON("Print JSON"),
};
COMMAND(show, "the graph of a recipe, or what is in a .safetensors file", "RECIPE|FILE", 1, 1,
        "The layers of RECIPE and the size of its training graph after each pass; with --pass that graph as text, with "
        "--svg as a picture. Or the tensors in FILE, a .safetensors file, a checkpoint or a run's directory: name, "
        "type, shape, bytes and statistics.")

static const struct option_row tune_options[] = {
    SET,
    DEVICE,
    THREADS,
    { "batch", 'b', "N", OPTION_INT, AT(batch), 1, 1048576, NULL, "Instead of the recipe's" },
    { "trials", 0, "N", OPTION_INT, AT(trials), 1, 64, NULL, "Launches of each algorithm; default: 20" },
    OUT("FILE", "The lock file; default: tuning.lock"),
    JSON("Print one JSON object for each choice"),
};
COMMAND(tune, "time a GPU's algorithms and write the lock file of the fastest", "RECIPE", 1, 1,
        "Times, on this machine's GPU, the algorithms of cuBLASLt and cuDNN that keep Quern's promises, for every "
        "product and convolution of the recipe's training step, and writes the fastest to a lock file with the GPU, "
        "driver and versions that it holds for. quern train --tuning=FILE takes them from there: nothing else in "
        "Quern times, so speed, memory and bits repeat.")

static const struct option_row search_options[] = {
    { "space", 0, "FILE", OPTION_TEXT, AT(space), 0, 0, NULL, "What to vary; see above" },
    { "trials", 'n', "N", OPTION_INT, AT(trials), 1, 100000, NULL, "How many settings to try" },
    { "method", 'm', "NAME", OPTION_CHOICE, AT(method), 0, 0, methods, "How settings are chosen; default: random" },
    SEED("Of the choice of settings"),
    SET,
    RESUME("Go on with the search in DIR, or with the latest"),
    OUT("DIR", "Where searches are kept; default: runs"),
    DEVICE,
    THREADS,
    QUIET,
    JSON("Print JSON"),
};
COMMAND(search, "find better settings for a recipe", "RECIPE", 1, 1,
        "Trains RECIPE with settings from a space and ranks them on the validation part; leaves a CSV table and a "
        "picture. halving gives --trials settings a few epochs each, the better third of them three times as many, and "
        "so on up to the recipe's. FILE is a JSON object: keys as for --set, each with a list of values, or with a "
        "range, {\"uniform\": [low, high]} or {\"log\": [low, high]}, to which a grid needs \"steps\": N. An example: "
        "{\"optimizer.lr\": {\"log\": [1e-4, 1e-2]}, \"batch\": [32, 64], \"model[1].linear\": {\"uniform\": [64, "
        "512]}}.")

static const struct option_row schema_options[] = {
    SET,
    { "markdown", 0, NULL, OPTION_FLAG, AT(markdown), 0, 0, NULL, "The page docs/recipes.md" },
    JSON("The schema as JSON Schema"),
};
COMMAND(schema, "what a recipe may contain; check one", "[RECIPE]", 0, 1,
        "Lists every key of a recipe with type, range, default and meaning. With RECIPE: checks it, reports all its "
        "mistakes, and prints it with variables, defaults and repeats written out.")

static const struct option_row devices_options[] = { JSON("Print JSON") };
COMMAND(devices, "what Quern can compute on here", "", 0, 0,
        "Lists the devices that can be used, and why others can not.")

static const struct option_row doctor_options[] = { JSON("Print JSON") };
COMMAND(doctor, "check this machine and this installation", "", 0, 0,
        "Versions of Quern and of its libraries, and small computations compared with known results.")

static const struct option_row convert_options[] = {
    { "dtype", 0, "NAME", OPTION_CHOICE, AT(dtype), 0, 0, dtypes, "Element type of the result" },
};
COMMAND(convert, "change the format or element type of a model", "INPUT OUTPUT", 2, 2,
        "Reads a .safetensors or .npy file and writes the other format or another element type. A file of many tensors "
        "goes into a directory (an existing one, or a name that ends in /), one NAME.npy each; bf16 becomes f32 "
        "there, which NumPy has. Integer tensors keep their type.")

static const struct option_row demo_options[] = {
    OUT("DIR", "Where checkpoint, log and pictures go; default: out/demo"),
    THREADS,
    SEED("Another run"),
    QUIET,
};
COMMAND(demo, "train on Fashion-MNIST and draw what was learnt", "", 0, 0,
        "Trains a convolutional network for about three minutes and leaves pictures of the result.")

static const struct option_row ensemble_options[] = {
    { "method", 'm', "NAME", OPTION_CHOICE, AT(method), 0, 0, averages,
      "How models are combined: mean of their probabilities, vote, or mean weighted by accuracy on the validation "
      "part; default: mean" },
    DATA,
    SET,
    DEVICE,
    THREADS,
    JSON("Print JSON"),
};
COMMAND(ensemble, "measure several models together", "MODEL MODEL...", 2, 64,
        "Loss and metrics of several models taken together, and of each alone, on the test part of the first model's "
        "data. See also quern train --folds.")
