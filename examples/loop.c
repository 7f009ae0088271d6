/* loop.c - a training loop of one's own: a table in CSV, two layers, Adam, and the accuracy on what was held out.
 *
 *     loop TABLE.csv LABEL [EPOCHS] */
#include <quern.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 32, HIDDEN = 16 };

struct network {
    qn_graph *graph;
    qn_program *program;
    qn_t x, label, scores;
    qn_train_nodes train;
};

/* train: with gradients and updates. Both programs share the weights of the store by their names. */
static qn_status build(struct network *n, qn_store *store, int64_t features, int64_t classes, bool train, qn_error *err)
{
    if (qn_graph_new(&n->graph, NULL)) return QN_EMEMORY;
    qn_graph *g = n->graph;
    n->x = qn_input(g, "x", QN_F32, 2, (int64_t[]){ BATCH, features });
    n->label = qn_input(g, "label", QN_I32, 1, (int64_t[]){ BATCH });
    n->scores = qn_linear(g, "out", qn_tanh(g, qn_linear(g, "hidden", n->x, HIDDEN, NULL)), classes, NULL);
    n->train.loss = qn_cross_entropy(g, n->scores, n->label, NULL);
    qn_train_opts opts = { .optimizer = {
                               .kind = QN_OPTIMIZER_ADAM, .lr = 0.01, .betas = { 0.9, 0.999 }, .eps = 1e-8 } };
    if (train) (void)qn_train_build(g, n->train.loss, &opts, &n->train); /* what is wrong is told by qn_compile */
    qn_t keep[] = { n->scores, n->train.loss };
    qn_status status = qn_compile(&n->program, g, keep, 2, store, NULL, err);
    return status ? status : qn_program_load(n->program, err);
}

static void close_network(struct network *n)
{
    qn_program_free(n->program);
    qn_graph_free(n->graph);
}

/* One pass; whole batches only, so that one program does. */
static qn_status pass(struct network *n, qn_loader *loader, qn_metrics *metrics, qn_error *err)
{
    const qn_batch *b;
    for (;;) {
        qn_status status = qn_loader_next(loader, &b, err);
        if (status || !b) return status;
        memcpy(qn_program_data(n->program, n->x), b->x, (size_t)qn_count(n->graph, n->x) * sizeof *b->x);
        memcpy(qn_program_data(n->program, n->label), b->label, BATCH * sizeof *b->label);
        status = qn_program_run(n->program, QN_MICRO, err);
        if (!status && !metrics) status = qn_program_run(n->program, QN_UPDATE, err);
        if (!status && metrics)
            status = qn_metrics_add_classes(metrics, qn_program_data(n->program, n->scores), b->label, b->count, err);
        if (status) return status;
    }
}

static qn_status measure(struct network *n, qn_loader *loader, int64_t classes, qn_error *err)
{
    qn_metrics *m = NULL;
    qn_metrics_summary s;
    qn_metrics_options opts = { .kind = QN_METRICS_CLASSES, .width = classes, .logits = true };
    qn_status status = qn_metrics_create(&m, &opts, NULL, err);
    if (!status) status = pass(n, loader, m, err);
    if (!status) status = qn_metrics_result(m, &s, err);
    if (!status) printf("accuracy on %lld held-out rows: %.3f\n", (long long)s.count, s.accuracy);
    qn_metrics_free(m);
    return status;
}

int main(int argc, char **argv)
{
    qn_error err = { 0 };
    qn_dataset *data = NULL;
    qn_indices train = { 0 }, valid = { 0 };
    qn_loader *shuffled = NULL, *held_out = NULL;
    qn_store *store = NULL;
    struct network learner = { 0 }, judge = { 0 };
    if (argc < 3) {
        fprintf(stderr, "usage: loop TABLE.csv LABEL [EPOCHS]\n");
        return 2;
    }
    int epochs = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 20;
    qn_csv_options csv = { .label = argv[2], .standardise = true };
    qn_loader_options in_turn = { .batch = BATCH, .drop_last = true }, mixed = in_turn;
    mixed.shuffle = true;
    qn_status status = qn_dataset_from_csv(&data, argv[1], &csv, &err);
    if (!status) status = qn_split_fraction(&train, &valid, data, NULL, 0.25, 1, true, &err);
    if (!status) status = qn_dataset_fit(data, &train, &err); /* mean and deviation of the training rows alone */
    if (!status) status = qn_loader_open(&shuffled, data, &train, &mixed, &err);
    if (!status) status = qn_loader_open(&held_out, data, &valid, &in_turn, &err);
    if (!status) status = qn_store_new(&store, "cpu", 1, NULL, &err);
    int64_t features = status ? 0 : qn_transform_size(qn_dataset_transform(data));
    int64_t classes = status ? 0 : qn_dataset_transform(data)->n_classes;
    if (!status) status = build(&learner, store, features, classes, true, &err);
    if (!status) status = build(&judge, store, features, classes, false, &err);
    for (int i = 0; i < epochs && !status; i++) status = pass(&learner, shuffled, NULL, &err);
    if (!status) status = measure(&judge, held_out, classes, &err);
    if (status) fprintf(stderr, "%s\n", err.text);
    close_network(&learner);
    close_network(&judge);
    qn_store_free(store);
    qn_loader_free(shuffled);
    qn_loader_free(held_out);
    qn_indices_free(&train);
    qn_indices_free(&valid);
    qn_dataset_free(data);
    return (int)status;
}
