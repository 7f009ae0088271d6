/* What a good recipe means: defaults, variables, --set, names and inputs of layers, and that the written
 * recipe is the same recipe. */
#include "recipe_aid.h"
#include "../../train/schema.h"
#include <glob.h>

static void defaults(void **state)
{
    (void)state;
    qn_recipe *r = good_set(HEAD MODEL "}", NULL);
    assert_string_equal(r->name, "r");
    assert_int_equal(r->format, 1);
    assert_int_equal(r->data.source, QN_SOURCE_DIGITS);
    assert_int_equal(r->data.digits, 100);
    assert_int_equal(r->data.normalize.kind, QN_NORMALIZE_SCALE);
    assert_true(r->data.stratified && r->data.shuffle);
    assert_int_equal(r->loss.kind, QN_LOSS_CROSS_ENTROPY);
    assert_int_equal(r->loss.ignore_index, -1);
    assert_int_equal(r->optimizer.kind, QN_OPTIMIZER_ADAMW);
    assert_true(r->optimizer.lr == 0.001 && r->optimizer.weight_decay == 0.01 && r->optimizer.eps == 1e-8);
    assert_true(r->optimizer.betas[0] == 0.9 && r->optimizer.betas[1] == 0.999);
    assert_int_equal(r->schedule.kind, QN_SCHEDULE_CONSTANT);
    assert_int_equal(r->epochs, 10);
    assert_int_equal(r->batch, 64);
    assert_int_equal(r->accumulate, 1);
    assert_false(r->augment.on || r->early_stopping.on || r->ema.on);
    assert_int_equal(r->checkpoint.every_epochs, 1);
    assert_string_equal(r->device, "auto");
    assert_int_equal(r->n_layers, 1);
    assert_int_equal(r->layers[0].kind, QN_LAYER_LINEAR);
    assert_int_equal(r->layers[0].channels, 10);
    assert_int_equal(r->layers[0].n_input, 1);
    assert_int_equal(r->layers[0].input[0], QN_INPUT);
    assert_true(r->layers[0].bias);
    qn_recipe_free(r);
    qn_recipe_free(NULL);
}

/* Defaults that depend on the kind beside them. */
static void defaults_by_kind(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        double lr, decay, eps;
    } row[] = {
        { "sgd", 0.01, 0, 0 },         { "adam", 0.001, 0, 1e-8 },    { "adamw", 0.001, 0.01, 1e-8 },
        { "rmsprop", 0.001, 0, 1e-8 }, { "adagrad", 0.01, 0, 1e-10 }, { "lamb", 0.001, 0.01, 1e-6 },
        { "lion", 0.0001, 0.01, 0 },
    };
    for (size_t i = 0; i < sizeof row / sizeof *row; i++) {
        char text[300];
        snprintf(text, sizeof text, HEAD MODEL ", \"optimizer\": \"%s\"}", row[i].name);
        qn_recipe *r = good_set(text, NULL);
        assert_int_equal(r->optimizer.kind, i);
        assert_true(r->optimizer.lr == row[i].lr && r->optimizer.weight_decay == row[i].decay);
        assert_true(r->optimizer.eps == row[i].eps);
        qn_recipe_free(r);
    }
}

static void comments_and_marks(void **state)
{
    (void)state;
    qn_recipe *r = good_set("\xef\xbb\xbf// first\r\n" HEAD "/* \" { */ \"device\": \"cpu\",\n//\n" MODEL "/**/}// end",
                            NULL);
    assert_string_equal(r->device, "cpu");
    qn_recipe_free(r);
    r = good_set("{\"quern\":1,\"data\":{\"png\":\"a//b/*c*/\"}," MODEL "}", NULL); /* not comments */
    assert_string_equal(r->data.png, "a//b/*c*/");
    qn_recipe_free(r);
}

static const qn_layer *layer(const qn_recipe *r, int i, qn_layer_kind kind, const char *name, int32_t input)
{
    assert_true(i < r->n_layers);
    assert_string_equal(r->layers[i].name, name);
    assert_int_equal(r->layers[i].kind, kind);
    assert_int_equal(r->layers[i].input[0], input);
    return &r->layers[i];
}

static void blocks_are_written_out(void **state)
{
    (void)state;
    qn_recipe *r = good_set(HEAD "\"model\": [{\"conv\": 8, \"activation\": \"relu\", \"name\": \"stem\"},  "
                                 "{\"repeat\": 2, \"name\": \"block\", \"layers\": [{\"conv\": 8, \"name\": \"c\"}, "
                                 "{\"dropout\": 0.5, \"from\": \"c\"}]},  {\"residual\": [\"relu\", {\"conv\": 8}], "
                                 "\"shortcut\": [\"tanh\"], \"activation\": \"silu\"},  {\"concat\": [[{\"conv\": 4}], "
                                 "[], [{\"max_pool\": 2}]], \"name\": \"cat\"},  {\"linear\": 3, \"from\": \"block\"}, "
                                 "{\"add\": true, \"from\": [\"stem\", \"input\", \"block.1.c\"]}]}",
                            NULL);
    layer(r, 0, QN_LAYER_CONV, "stem", QN_INPUT);
    layer(r, 1, QN_LAYER_RELU, "stem.relu", 0);
    layer(r, 2, QN_LAYER_CONV, "block.0.c", 1);
    layer(r, 3, QN_LAYER_DROPOUT, "block.0.dropout1", 2);
    layer(r, 4, QN_LAYER_CONV, "block.1.c", 3);
    layer(r, 5, QN_LAYER_DROPOUT, "block.1.dropout1", 4);
    layer(r, 6, QN_LAYER_RELU, "residual1.relu1", 5);
    layer(r, 7, QN_LAYER_CONV, "residual1.conv1", 6);
    layer(r, 8, QN_LAYER_TANH, "residual1.shortcut.tanh1", 5);
    const qn_layer *sum = layer(r, 9, QN_LAYER_ADD, "residual1", 7);
    assert_int_equal(sum->n_input, 2);
    assert_int_equal(sum->input[1], 8);
    layer(r, 10, QN_LAYER_SILU, "residual1.silu", 9);
    layer(r, 11, QN_LAYER_CONV, "cat.0.conv1", 10);
    const qn_layer *pool = layer(r, 12, QN_LAYER_MAX_POOL, "cat.2.max_pool1", 10);
    assert_int_equal(pool->stride[0], 2);
    const qn_layer *cat = layer(r, 13, QN_LAYER_CONCAT, "cat", 11);
    assert_int_equal(cat->n_input, 3);
    assert_int_equal(cat->input[1], 10);
    assert_int_equal(cat->input[2], 12);
    layer(r, 14, QN_LAYER_LINEAR, "linear1", 5);                 /* the repeat's last output */
    const qn_layer *add = layer(r, 15, QN_LAYER_ADD, "add1", 1); /* "stem" is what comes out of its relu */
    assert_int_equal(add->input[1], QN_INPUT);
    assert_int_equal(add->input[2], 4);
    assert_int_equal(r->n_layers, 16);
    qn_recipe_free(r);
}

static void values_in_all_forms(void **state)
{
    (void)state;
    qn_recipe *r = good_set(HEAD "\"model\": [{\"conv\": 8, \"kernel\": [3, 5], \"padding\": \"same\", \"stride\": 2, "
                                 "\"init\": \"zeros\"},{\"leaky_relu\": true}, {\"leaky_relu\": 0.2}, \"elu\", "
                                 "\"gelu\", {\"gelu\": \"tanh\"}, {\"batch_norm\": {\"eps\": 0.5}},{\"batch_norm\": "
                                 "true, \"momentum\": 0.5}, {\"reshape\": [-1, 4]}, {\"avg_pool\": [2, 3], \"stride\": "
                                 "1}],\"augment\": {\"flip\": true, \"erase\": false}, \"metrics\": [\"accuracy\", "
                                 "{\"name\": \"top_k\", \"k\": 3}, \"f1\"]}",
                            NULL);
    const qn_layer *l = r->layers;
    assert_true(l[0].kernel[0] == 3 && l[0].kernel[1] == 5 && l[0].padding[0] == QN_PADDING_SAME &&
                l[0].stride[1] == 2);
    assert_int_equal(l[0].init, QN_RECIPE_INIT_ZEROS);
    assert_true(l[1].alpha == 0.01 && l[2].alpha == 0.2 && l[3].alpha == 1);
    assert_true(l[4].gelu == QN_GELU_ERF && l[5].gelu == QN_GELU_TANH);
    assert_true(l[6].eps == 0.5 && l[6].momentum == 0.9 && l[7].eps == 1e-5 && l[7].momentum == 0.5);
    assert_true(l[8].shape.n == 2 && l[8].shape.v[0] == -1 && l[8].shape.v[1] == 4);
    assert_true(l[9].kernel[1] == 3 && l[9].stride[0] == 1);
    assert_true(r->augment.on && r->augment.flip == 0.5 && r->augment.erase == 0);
    assert_int_equal(r->n_metrics, 3);
    assert_int_equal(r->metrics[1].k, 3);
    assert_int_equal(r->metrics[2].average, QN_AVERAGE_MACRO);
    qn_recipe_free(r);
}

static void variables(void **state)
{
    (void)state;
    const char *text = HEAD "\"vars\": {\"w\": 8, \"v\": \"$w\", \"block\": [{\"linear\": \"$v\"}, \"relu\"], "
                            "\"price\": \"$$w\"},\"model\": [{\"repeat\": 2, \"layers\": \"$block\"}], \"epochs\": "
                            "\"$w\"}";
    qn_recipe *r = good_set(text, NULL);
    assert_int_equal(r->n_layers, 4);
    assert_int_equal(r->layers[2].channels, 8);
    assert_int_equal(r->epochs, 8);
    qn_recipe_free(r);
    r = good_set(text, "vars.w=5");
    assert_int_equal(r->layers[2].channels, 5);
    qn_recipe_free(r);
}

static void sets(void **state)
{
    (void)state;
    static const char *const set[] = { "optimizer.lr=3e-4",     "model[0].linear=64",
                                       "data.digits=500",       "name=7",
                                       "ema.decay=0.5",         "loss.label_smoothing=0.25",
                                       "metrics=[\"accuracy\"]" };
    const char *text = HEAD MODEL ", \"optimizer\": \"sgd\", \"ema\": false}";
    qn_recipe *r;
    assert_int_equal(qn_recipe_parse(&r, "r.json", text, strlen(text), set, 7, &errs), QN_OK);
    assert_true(r->optimizer.kind == QN_OPTIMIZER_SGD && r->optimizer.lr == 3e-4);
    assert_int_equal(r->layers[0].channels, 64);
    assert_int_equal(r->data.digits, 500);
    assert_string_equal(r->name, "7");
    assert_true(r->ema.on && r->ema.decay == 0.5 && r->loss.label_smoothing == 0.25);
    assert_int_equal(r->n_metrics, 1);
    qn_recipe_free(r);
}

static void data_paths(void **state)
{
    (void)state;
    qn_recipe *r = good_set("{\"quern\":1,\"data\":\"fashion-mnist\"," MODEL "}", NULL);
    assert_string_equal(r->data.idx.images, "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte");
    assert_int_equal(r->data.classes.n, 10);
    assert_string_equal(r->data.classes.v[9], "Ankle boot");
    qn_recipe_free(r);
    r = good_set("{\"quern\":1,\"data\":\"mnist\"," MODEL "}", "data.dir=my data/");
    assert_string_equal(r->data.idx.test_labels, "my data/t10k-labels-idx1-ubyte");
    assert_int_equal(r->data.classes.n, 0);
    qn_recipe_free(r);
    r = good_set("{\"quern\":1,\"data\":{\"dir\":\"d\",\"idx\":{\"images\":\"a\",\"labels\":\"/b\"}}," MODEL "}", NULL);
    assert_string_equal(r->data.idx.images, "d/a");
    assert_string_equal(r->data.idx.labels, "/b");
    assert_null(r->data.idx.test_images);
    qn_recipe_free(r);
}

/* Written and read again, the text is the same, and so is every value, since all are in the text. */
static void check_round_trip(const qn_recipe *r)
{
    char *first, *second;
    size_t bytes;
    qn_recipe *again;
    assert_int_equal(qn_recipe_write(r, &first, &bytes, NULL), QN_OK);
    assert_int_equal(strlen(first), bytes);
    if (qn_recipe_parse(&again, "other.json", first, bytes, NULL, 0, &errs)) fail_msg("%s", errs.list[0].text);
    assert_int_equal(qn_recipe_write(again, &second, NULL, NULL), QN_OK);
    assert_string_equal(first, second);
    assert_int_equal(again->n_layers, r->n_layers);
    for (int i = 0; i < r->n_layers; i++) {
        const qn_layer *a = &r->layers[i], *b = &again->layers[i];
        assert_true(a->kind == b->kind && a->n_input == b->n_input && strcmp(a->name, b->name) == 0);
        assert_memory_equal(a->input, b->input, (size_t)a->n_input * sizeof *a->input);
        assert_memory_equal(a->kernel, b->kernel, sizeof a->kernel);
        assert_memory_equal(a->stride, b->stride, sizeof a->stride);
        assert_memory_equal(a->padding, b->padding, sizeof a->padding);
        assert_true(a->channels == b->channels && a->bias == b->bias && a->init == b->init && a->eps == b->eps);
        assert_true(a->rate == b->rate && a->alpha == b->alpha && a->axis == b->axis && a->gelu == b->gelu);
    }
    assert_memory_equal(&r->optimizer, &again->optimizer, offsetof(qn_recipe_optimizer, n_groups));
    qn_recipe_free(again);
    free(first);
    free(second);
}

static void round_trip_of_every_recipe(void **state)
{
    (void)state;
    glob_t g;
    assert_int_equal(glob("recipes/*.json", 0, NULL, &g), 0);
    assert_true(g.gl_pathc >= 10);
    for (size_t i = 0; i < g.gl_pathc; i++) {
        qn_recipe *r;
        if (qn_recipe_load(&r, g.gl_pathv[i], NULL, 0, &errs)) fail_msg("%s", errs.list[0].text);
        check_round_trip(r);
        qn_recipe_free(r);
    }
    globfree(&g);
}

static void round_trip_of_odd_values(void **state)
{
    (void)state;
    static const char *const text[] = {
        HEAD "\"model\": [{\"add\": [[], [\"relu\"]]}, {\"concat\": true, \"from\": [\"add1\", \"input\"]}]}",
        "{\"quern\":1,\"name\":\"a.b\",\"data\":{\"csv\":\"$$a\\\"\\\\\\u00e4\\n.csv\",\"label\":"
        "\"$$\",\"columns\":[\"$$x\"],"
        "\"classes\":\"one\",\"clip_outliers\":0.1}," MODEL ",\"loss\":{\"name\":\"bce\",\"pos_weight\":1e-300},"
        "\"optimizer\":{\"name\":\"lion\",\"groups\":[{\"match\":\"*.bias\",\"weight_decay\":0},{"
        "\"match\":\"*\"}]}}",
        "{\"quern\":1,\"data\":{\"npy\":{\"images\":\"x\",\"labels\":\"y\"},\"dir\":\"d\","
        "\"normalize\":{\"mean\":[0.1],\"std\":[0.3]}},"
        "\"model\":[{\"conv\":4,\"padding\":\"same\",\"kernel\":[1,2]}],\"schedule\":{\"name\":"
        "\"multi_step\",\"at\":[1,2.5]}}",
    };
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        qn_recipe *r = good_set(text[i], NULL);
        check_round_trip(r);
        qn_recipe_free(r);
    }
}

/* Every number at the top level, set to another value, stands in the written recipe. */
static void every_number_is_kept(void **state)
{
    (void)state;
    assert_true(qn__layer_table.n <= 64 && qn__recipe_table.n <= 64); /* a bit per row */
    for (int i = 0; i < qn__recipe_table.n; i++) {
        const struct qn__field *f = &qn__recipe_table.field[i];
        if (f->kind != QN__K_INT || f->min == f->max) continue;
        char set[80], *after;
        snprintf(set, sizeof set, "%s=%.0f", f->name, f->min + 1);
        qn_recipe *b = good_set(HEAD MODEL "}", set);
        assert_int_equal(qn_recipe_write(b, &after, NULL, NULL), QN_OK);
        snprintf(set, sizeof set, "\"%s\": %.0f", f->name, f->min + 1);
        assert_non_null(strstr(after, set));
        free(after);
        qn_recipe_free(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(defaults_by_kind),
        cmocka_unit_test(comments_and_marks),
        cmocka_unit_test(blocks_are_written_out),
        cmocka_unit_test(values_in_all_forms),
        cmocka_unit_test(variables),
        cmocka_unit_test(sets),
        cmocka_unit_test(data_paths),
        cmocka_unit_test(round_trip_of_every_recipe),
        cmocka_unit_test(round_trip_of_odd_values),
        cmocka_unit_test(every_number_is_kept),
    };
    return cmocka_run_group_tests_name("recipe", tests, NULL, NULL);
}
