/* classify.c - what a trained network says of pictures. MODEL is a run's directory or a checkpoint; it carries the size
 * of its inputs, how they are normalised, and the names of the classes.
 *
 *     classify MODEL PICTURE.png... */
#include <quern.h>
#include <stdio.h>
#include <stdlib.h>

static qn_status classify(qn_model *model, const char *path, qn_error *err)
{
    const qn_transform *t = qn_model_transform(model);
    qn_png_options size = { .channels = (int)t->dim[0], .height = (int)t->dim[1], .width = (int)t->dim[2] };
    int64_t classes = qn_model_outputs(model), best = 0;
    float *x = calloc((size_t)qn_transform_size(t), sizeof *x), *p = calloc((size_t)classes, sizeof *p);
    qn_array picture;
    qn_status status = x && p ? qn_png_read(&picture, path, &size, err) : QN_EMEMORY;
    if (!status) {
        status = qn_transform_image(t, &picture, x, err);
        qn_array_free(&picture);
    }
    if (!status) status = qn_model_predict(model, x, 1, p, err);
    for (int64_t c = 1; !status && c < classes; c++)
        if (p[c] > p[best]) best = c;
    if (!status) printf("%s: %s, %.1f %%\n", path, t->class_name[best], 100 * (double)p[best]);
    free(x);
    free(p);
    return status;
}

int main(int argc, char **argv)
{
    qn_error err = { 0 };
    qn_model *model = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: classify MODEL PICTURE.png...\n");
        return 2;
    }
    qn_status status = qn_model_open(&model, argv[1], "cpu", 0, &err);
    const qn_transform *t = status ? NULL : qn_model_transform(model);
    if (t && (t->rank != 3 || t->n_classes != qn_model_outputs(model))) {
        fprintf(stderr, "%s: expected a network with one output per class, for pictures\n", argv[1]);
        status = QN_EUSAGE;
    } else {
        for (int i = 2; i < argc && !status; i++) status = classify(model, argv[i], &err);
        if (status) fprintf(stderr, "%s\n", err.text);
    }
    qn_model_free(model);
    return (int)status;
}
