/* metrics.c - accuracy, precision and their relatives, counted batch by batch: see quern/metrics.h. */
#include "metrics.h"
#include "../core/base.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct qn_metrics {
    qn_metrics_options opt;
    const qn_alloc *alloc;
    int64_t classes; /* 2 for BINARY, 0 for REGRESSION */
    int64_t scores_per_sample;
    int64_t count, ignored, nonfinite, correct, in_top_k;
    double loss_sum, loss_weight, square_sum, abs_sum;
    int64_t *support, *predicted, *hit; /* [classes] */
    int64_t *confusion;                 /* [classes, classes] or NULL */
    float *kept;                        /* [kept_cap, scores_per_sample] or NULL */
    int32_t *kept_label;                /* [kept_cap] */
    struct qn__scored *scratch;         /* [kept_cap] */
    size_t kept_n, kept_cap;
    bool auc_void; /* a score without an order was seen */
};

enum { MAX_CLASSES = 1 << 20 };

static qn_status check_options(const qn_metrics_options *o, qn_error *err)
{
    if (o->kind != QN_METRICS_CLASSES && o->kind != QN_METRICS_BINARY && o->kind != QN_METRICS_REGRESSION)
        return qn__fail(err, 2204, QN_AT_FIELD("metrics.kind"), "%d; expected a qn_metrics_kind", (int)o->kind);
    int64_t low = o->kind == QN_METRICS_CLASSES ? 2 : o->kind == QN_METRICS_BINARY ? 0 : 1;
    int64_t high = o->kind == QN_METRICS_BINARY ? 1 : MAX_CLASSES;
    if (o->width < low || o->width > high)
        return qn__fail(err, 2204, QN_AT_FIELD("metrics.width"), "%lld; expected %lld..%lld", (long long)o->width,
                        (long long)low, (long long)high);
    if (o->kind == QN_METRICS_CLASSES && (o->top_k < 0 || o->top_k > o->width))
        return qn__fail(err, 2204, QN_AT_FIELD("metrics.top_k"), "%lld; expected 0..%lld", (long long)o->top_k,
                        (long long)o->width);
    if (o->expect < 0)
        return qn__fail(err, 2204, QN_AT_FIELD("metrics.expect"), "%lld; expected 0 or more", (long long)o->expect);
    if (o->has_threshold && !isfinite(o->threshold))
        return qn__fail(err, 2204, QN_AT_FIELD("metrics.threshold"), "not finite; expected a finite number");
    return QN_OK;
}

/* Room for `need` kept samples; the three arrays share one capacity. */
static qn_status reserve(qn_metrics *m, size_t need, qn_error *err)
{
    size_t width = (size_t)m->scores_per_sample, cap = m->kept_cap ? m->kept_cap : need, bytes;
    if (need <= m->kept_cap) return QN_OK;
    while (cap < need)
        if (!qn__mul(&cap, cap, 2)) return qn__nomem(err, "metrics.auc", SIZE_MAX);
    if (!qn__mul(&bytes, cap, width) || !qn__mul(&bytes, bytes, sizeof(float)))
        return qn__nomem(err, "metrics.auc", SIZE_MAX);
    float *kept = qn__calloc(m->alloc, bytes, 1);
    int32_t *label = qn__calloc(m->alloc, cap, sizeof *label);
    struct qn__scored *scratch = qn__calloc(m->alloc, cap, sizeof *scratch);
    bool ok = kept && label && scratch;
    if (ok && m->kept_n) {
        memcpy(kept, m->kept, m->kept_n * width * sizeof(float));
        memcpy(label, m->kept_label, m->kept_n * sizeof *label);
    }
    qn__free(m->alloc, ok ? m->kept : kept, (ok ? m->kept_cap : cap) * width * sizeof(float));
    qn__free(m->alloc, ok ? m->kept_label : label, (ok ? m->kept_cap : cap) * sizeof *label);
    qn__free(m->alloc, ok ? m->scratch : scratch, (ok ? m->kept_cap : cap) * sizeof *scratch);
    if (!ok) return qn__nomem(err, "metrics.auc", bytes);
    m->kept = kept;
    m->kept_label = label;
    m->scratch = scratch;
    m->kept_cap = cap;
    return QN_OK;
}

static qn_status allocate(qn_metrics *m, qn_error *err)
{
    size_t c = (size_t)m->classes, cells;
    if (c) {
        m->support = qn__calloc(m->alloc, c, sizeof *m->support);
        m->predicted = qn__calloc(m->alloc, c, sizeof *m->predicted);
        m->hit = qn__calloc(m->alloc, c, sizeof *m->hit);
        if (!m->support || !m->predicted || !m->hit) return qn__nomem(err, "metrics", 3 * c * sizeof *m->hit);
    }
    if (c && m->opt.confusion) {
        if (!qn__mul(&cells, c, c)) return qn__nomem(err, "metrics.confusion", SIZE_MAX);
        m->confusion = qn__calloc(m->alloc, cells, sizeof *m->confusion);
        if (!m->confusion) return qn__nomem(err, "metrics.confusion", cells * sizeof *m->confusion);
    }
    return c && m->opt.auc ? reserve(m, (size_t)(m->opt.expect ? m->opt.expect : 256), err) : QN_OK;
}

qn_status qn_metrics_create(qn_metrics **out, const qn_metrics_options *options, const qn_alloc *alloc, qn_error *err)
{
    if (!out || !options) return qn__fail(err, 2204, QN_AT_FIELD("metrics"), "NULL; expected a place and options");
    *out = NULL;
    QN_TRY(check_options(options, err));
    qn_metrics *m = qn__calloc(alloc, 1, sizeof *m);
    if (!m) return qn__nomem(err, "metrics", sizeof *m);
    m->opt = *options;
    m->alloc = alloc;
    m->classes = options->kind == QN_METRICS_CLASSES ? options->width : options->kind == QN_METRICS_BINARY ? 2 : 0;
    m->scores_per_sample = options->kind == QN_METRICS_BINARY ? 1 : options->width;
    if (m->opt.top_k == 0) m->opt.top_k = m->classes < 5 ? m->classes : 5;
    if (!m->opt.has_threshold) m->opt.threshold = options->logits ? 0.0f : 0.5f;
    qn_status status = allocate(m, err);
    if (status)
        qn_metrics_free(m);
    else
        *out = m;
    return status;
}

void qn_metrics_free(qn_metrics *m)
{
    if (!m) return;
    size_t c = (size_t)m->classes, width = (size_t)m->scores_per_sample;
    qn__free(m->alloc, m->support, c * sizeof *m->support);
    qn__free(m->alloc, m->predicted, c * sizeof *m->predicted);
    qn__free(m->alloc, m->hit, c * sizeof *m->hit);
    qn__free(m->alloc, m->confusion, c * c * sizeof *m->confusion);
    qn__free(m->alloc, m->kept, m->kept_cap * width * sizeof(float));
    qn__free(m->alloc, m->kept_label, m->kept_cap * sizeof *m->kept_label);
    qn__free(m->alloc, m->scratch, m->kept_cap * sizeof *m->scratch);
    qn__free(m->alloc, m, sizeof *m);
}

void qn_metrics_reset(qn_metrics *m)
{
    size_t c = (size_t)m->classes;
    m->count = m->ignored = m->nonfinite = m->correct = m->in_top_k = 0;
    m->loss_sum = m->loss_weight = m->square_sum = m->abs_sum = 0;
    m->kept_n = 0;
    m->auc_void = false;
    if (c) {
        memset(m->support, 0, c * sizeof *m->support);
        memset(m->predicted, 0, c * sizeof *m->predicted);
        memset(m->hit, 0, c * sizeof *m->hit);
    }
    if (m->confusion) memset(m->confusion, 0, c * c * sizeof *m->confusion);
}

void qn_metrics_add_loss(qn_metrics *m, double mean, double weight)
{
    m->loss_sum += mean * weight;
    m->loss_weight += weight;
}

/* The predicted class, or -1 where the scores have no order. */
static int64_t predict(const qn_metrics *m, const float *s)
{
    if (m->opt.kind == QN_METRICS_BINARY) return isnan(s[0]) ? -1 : s[0] > m->opt.threshold;
    int64_t best = 0;
    for (int64_t i = 0; i < m->classes; i++) {
        if (isnan(s[i])) return -1;
        if (s[i] > s[best]) best = i;
    }
    return isinf(s[best]) ? -1 : best;
}

static bool within_top_k(const qn_metrics *m, const float *s, int64_t label)
{
    int64_t above = 0;
    for (int64_t i = 0; i < m->classes; i++) above += s[i] > s[label] || (s[i] == s[label] && i < label);
    return above < m->opt.top_k;
}

/* Scores as the AUC wants them: comparable between samples, hence softmax for logits of classes. */
static void keep(qn_metrics *m, const float *s, int32_t label)
{
    int64_t width = m->scores_per_sample;
    float *k = m->kept + m->kept_n * (size_t)width;
    m->kept_label[m->kept_n++] = label;
    if (m->opt.kind == QN_METRICS_BINARY || !m->opt.logits) {
        memcpy(k, s, (size_t)width * sizeof *k);
        return;
    }
    float top = s[0];
    double sum = 0;
    for (int64_t i = 1; i < width; i++) top = s[i] > top ? s[i] : top;
    for (int64_t i = 0; i < width; i++) sum += exp((double)s[i] - (double)top);
    for (int64_t i = 0; i < width; i++) k[i] = (float)(exp((double)s[i] - (double)top) / sum);
}

static void add_sample(qn_metrics *m, const float *s, int32_t label)
{
    int64_t guess = predict(m, s);
    m->count++;
    m->support[label]++;
    if (guess < 0) {
        m->nonfinite++;
        m->auc_void = true;
        return;
    }
    m->predicted[guess]++;
    if (guess == label) {
        m->correct++;
        m->hit[label]++;
    }
    if (m->confusion) m->confusion[label * m->classes + guess]++;
    if (m->opt.kind == QN_METRICS_CLASSES) m->in_top_k += within_top_k(m, s, label);
    if (m->opt.auc) keep(m, s, label);
}

static qn_status wrong_kind(const char *what, qn_error *err)
{
    return qn__fail(err, 2204, QN_AT_FIELD("metrics"), "%s", what);
}

qn_status qn_metrics_add_classes(qn_metrics *m, const float *scores, const int32_t *labels, int64_t n, qn_error *err)
{
    if (!m || n < 0 || (n > 0 && (!scores || !labels)))
        return wrong_kind("NULL or a negative count; expected a batch", err);
    if (m->classes == 0) return wrong_kind("class labels for a regression; expected values", err);
    for (int64_t i = 0; i < n; i++) {
        if (m->opt.has_ignore && labels[i] == m->opt.ignore_index) continue;
        if (labels[i] < 0 || labels[i] >= m->classes)
            return qn__fail(err, 2204, QN_AT_FIELD("metrics.labels"), "label[%lld] = %d; expected 0..%lld",
                            (long long)i, (int)labels[i], (long long)m->classes - 1);
    }
    size_t need;
    if (m->opt.auc) {
        if (!qn__add(&need, m->kept_n, (size_t)n)) return qn__nomem(err, "metrics.auc", SIZE_MAX);
        QN_TRY(reserve(m, need, err));
    }
    for (int64_t i = 0; i < n; i++) {
        if (m->opt.has_ignore && labels[i] == m->opt.ignore_index)
            m->ignored++;
        else
            add_sample(m, scores + i * m->scores_per_sample, labels[i]);
    }
    return QN_OK;
}

qn_status qn_metrics_add_values(qn_metrics *m, const float *predicted, const float *target, int64_t n, qn_error *err)
{
    if (!m || n < 0 || (n > 0 && (!predicted || !target)))
        return wrong_kind("NULL or a negative count; expected a batch", err);
    if (m->classes) return wrong_kind("values for a classification; expected class labels", err);
    for (int64_t i = 0; i < n; i++) {
        bool finite = true;
        for (int64_t j = 0; j < m->opt.width; j++) {
            double d = (double)predicted[i * m->opt.width + j] - (double)target[i * m->opt.width + j];
            finite = finite && isfinite(d);
            m->square_sum += d * d;
            m->abs_sum += fabs(d);
        }
        m->nonfinite += !finite;
    }
    m->count += n;
    return QN_OK;
}

static int by_score(const void *a, const void *b)
{
    float x = ((const struct qn__scored *)a)->score, y = ((const struct qn__scored *)b)->score;
    return (x > y) - (x < y);
}

double qn__roc_auc(struct qn__scored *s, int64_t n)
{
    double positives = 0, rank_sum = 0;
    if (n > 0) qsort(s, (size_t)n, sizeof *s, by_score);
    for (int64_t i = 0, end; i < n; i = end) {
        double tied = 0;
        for (end = i; end < n && s[end].score == s[i].score; end++) tied += s[end].positive != 0;
        positives += tied;
        rank_sum += tied * 0.5 * (double)(i + 1 + end); /* ranks i+1 .. end share their mean */
    }
    double negatives = (double)n - positives;
    if (positives == 0 || negatives == 0) return (double)NAN;
    return (rank_sum - 0.5 * positives * (positives + 1)) / (positives * negatives);
}

static double auc_of(qn_metrics *m, int64_t c)
{
    if (!m->opt.auc || m->auc_void) return (double)NAN;
    int64_t column = m->opt.kind == QN_METRICS_BINARY ? 0 : c;
    for (size_t i = 0; i < m->kept_n; i++) {
        float score = m->kept[i * (size_t)m->scores_per_sample + (size_t)column];
        bool positive = m->kept_label[i] == c;
        /* One score for two classes: that of class 0 orders the other way round. */
        if (m->opt.kind == QN_METRICS_BINARY && c == 0) score = -score;
        m->scratch[i] = (struct qn__scored){ score, positive };
    }
    return qn__roc_auc(m->scratch, (int64_t)m->kept_n);
}

static double ratio(double above, double below) { return below > 0 ? above / below : 0; }

static void count_class(const qn_metrics *m, int64_t c, qn_metrics_class *k)
{
    *k = (qn_metrics_class){
        .support = m->support[c], .predicted = m->predicted[c], .correct = m->hit[c], .auc = (double)NAN
    };
    k->precision = ratio((double)k->correct, (double)k->predicted);
    k->recall = ratio((double)k->correct, (double)k->support);
    k->f1 = ratio(2 * (double)k->correct, (double)(k->predicted + k->support));
}

static void averages(const qn_metrics *m, qn_metrics_summary *s)
{
    qn_metrics_class k;
    double seen = 0, precision = 0, recall = 0, f1 = 0, predicted = 0;
    for (int64_t c = 0; c < m->classes; c++) {
        count_class(m, c, &k);
        predicted += (double)k.predicted;
        if (k.support == 0 && k.predicted == 0) continue;
        seen++;
        precision += k.precision;
        recall += k.recall;
        f1 += k.f1;
    }
    s->precision_macro = precision / seen;
    s->recall_macro = recall / seen;
    s->f1_macro = f1 / seen;
    s->precision_micro = ratio((double)m->correct, predicted);
    s->recall_micro = ratio((double)m->correct, (double)m->count);
    s->f1_micro = ratio(2 * (double)m->correct, predicted + (double)m->count);
}

static double auc_average(qn_metrics *m)
{
    if (m->opt.kind == QN_METRICS_BINARY) return auc_of(m, 1);
    double sum = 0, defined = 0;
    for (int64_t c = 0; c < m->classes; c++) {
        double auc = auc_of(m, c);
        if (isnan(auc)) continue;
        sum += auc;
        defined++;
    }
    return sum / defined;
}

qn_status qn_metrics_result(qn_metrics *m, qn_metrics_summary *out, qn_error *err)
{
    if (!m || !out) return wrong_kind("NULL; expected an accumulator and a place", err);
    double none = (double)NAN, n = (double)m->count;
    qn_metrics_summary s = { m->count, m->ignored, m->nonfinite, none, none, none, none, none,
                             none,     none,       none,         none, none, none, none };
    s.loss = m->loss_weight > 0 ? m->loss_sum / m->loss_weight : none;
    if (n > 0 && m->classes) {
        s.accuracy = (double)m->correct / n;
        if (m->opt.kind == QN_METRICS_CLASSES) s.top_k = (double)m->in_top_k / n;
        averages(m, &s);
        if (m->opt.auc) s.auc = auc_average(m);
    }
    if (n > 0 && !m->classes) {
        s.mse = m->square_sum / (n * (double)m->opt.width);
        s.mae = m->abs_sum / (n * (double)m->opt.width);
    }
    *out = s;
    return QN_OK;
}

qn_status qn_metrics_of_class(qn_metrics *m, int64_t c, qn_metrics_class *out, qn_error *err)
{
    if (!m || !out) return wrong_kind("NULL; expected an accumulator and a place", err);
    if (c < 0 || c >= m->classes)
        return qn__fail(err, 2204, QN_AT_FIELD("metrics.class"), "%lld; expected 0..%lld", (long long)c,
                        (long long)m->classes - 1);
    count_class(m, c, out);
    out->auc = auc_of(m, c);
    return QN_OK;
}

const int64_t *qn_metrics_confusion(const qn_metrics *m) { return m ? m->confusion : NULL; }
