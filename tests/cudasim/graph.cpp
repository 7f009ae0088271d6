/* graph.cpp - capture of streams into graphs, and their replay.
 *
 * A capture records each piece of work with the pieces that it must follow: the last of its stream, and those of the
 * events that the stream waited for. A replay keeps to these and to nothing else: eager streams run the nodes as they
 * were captured, lazy ones take the latest that may run, random order any; so an edge that is missing shows. */
#include "runtime.h"
#include "stream.h"
#include <memory>

namespace cudasim
{

struct Executable {
    std::shared_ptr<const Graph> graph;
};
struct Held { /* what a cudaGraph_t points to */
    std::shared_ptr<Graph> graph;
};
static std::vector<Capture *> captures;
static std::vector<Held *> graphs;
static std::vector<Executable *> executables;
static uint64_t captures_made;
static thread_local enum cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

size_t live_graphs() { return graphs.size() + executables.size(); }

Capture *capture_by_id(uint64_t id)
{
    for (Capture *c : captures)
        if (c->id == id) return c;
    return nullptr;
}
cudaError_t spoil_capture(uint64_t id, cudaError_t answer)
{
    Capture *c = capture_by_id(id);
    if (c) c->spoiled = true;
    return answer;
}

cudaError_t forbidden_while_capturing()
{
    cudaError_t answer = cudaSuccess;
    if (thread_mode == cudaStreamCaptureModeRelaxed) return answer;
    for (Capture *c : captures) {
        bool own = pthread_equal(c->thread, pthread_self());
        if (c->mode == cudaStreamCaptureModeRelaxed || (c->mode == cudaStreamCaptureModeThreadLocal && !own)) continue;
        if (!own && thread_mode == cudaStreamCaptureModeThreadLocal) continue;
        c->spoiled = true;
        answer = cudaErrorStreamCaptureUnsupported;
    }
    return answer;
}

void add_node(Stream *s, const char *what, Run run)
{
    Graph *g = s->capture->graph.get();
    g->node.push_back({ std::move(run), what, s->tails });
    s->tails.assign(1, (int)g->node.size() - 1);
}

/* ---- ending a capture ------------------------------------------------------------------------------------------ */

/* Whether every node that other streams end with comes before the end of the stream that began. */
static bool joined(const Capture *c)
{
    std::vector<bool> before(c->graph->node.size());
    std::vector<int> open = c->origin->tails;
    while (!open.empty()) {
        int n = open.back();
        open.pop_back();
        if (before[(size_t)n]) continue;
        before[(size_t)n] = true;
        const std::vector<int> &after = c->graph->node[(size_t)n].after;
        open.insert(open.end(), after.begin(), after.end());
    }
    for (const Stream *s : c->member)
        for (int n : s->tails)
            if (!before[(size_t)n]) return false;
    return true;
}

static void end(Capture *c)
{
    for (Stream *s : c->member) {
        s->capture = nullptr;
        s->tails.clear();
    }
    for (size_t i = 0; i < captures.size(); i++)
        if (captures[i] == c) captures.erase(captures.begin() + (long)i);
    delete c;
}

/* ---- replay -------------------------------------------------------------------------------------------------------- */

struct Replay {
    std::shared_ptr<const Graph> graph;
    std::vector<bool> done;
    size_t left;
};

static bool may_run(const Replay *r, size_t n)
{
    if (r->done[n]) return false;
    for (int before : r->graph->node[n].after)
        if (!r->done[(size_t)before]) return false;
    return true;
}

/* The nodes in the order in which they are tried. */
static size_t candidate(size_t i, size_t n)
{
    static uint64_t state = settings.seed;
    if (settings.streams == EAGER) return i;
    if (settings.order == RANDOM) return (i + next_random(&state)) % n;
    return n - 1 - i;
}

static bool replay(Replay *r)
{
    size_t n = r->graph->node.size();
    while (r->left) {
        bool moved = false;
        for (size_t i = 0; i < n && !moved; i++) {
            size_t k = candidate(i, n);
            if (!may_run(r, k) || !r->graph->node[k].run()) continue;
            r->done[k] = true;
            r->left--;
            moved = true;
        }
        if (!moved) return false;
    }
    r->done.assign(n, false);
    r->left = n;
    return true;
}

template <class T> static bool remove(std::vector<T *> *from, const void *what)
{
    for (size_t i = 0; i < from->size(); i++) {
        if ((*from)[i] != what) continue;
        delete (*from)[i];
        from->erase(from->begin() + (long)i);
        return true;
    }
    return false;
}
template <class T> static T *find(const std::vector<T *> &in, const void *what)
{
    for (T *x : in)
        if (x == what) return x;
    return nullptr;
}

} // namespace cudasim

using namespace cudasim;

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode)
{
    Entry entry("cudaThreadExchangeStreamCaptureMode", cudaErrorInvalidValue, false);
    if (entry.answer) return entry.answer;
    enum cudaStreamCaptureMode before = thread_mode;
    thread_mode = *mode;
    *mode = before;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    Entry entry("cudaStreamBeginCapture");
    if (entry.answer) return entry.answer;
    Stream *s = stream_of(stream);
    if (!s) return say(cudaErrorInvalidResourceHandle);
    if (s == legacy_stream(s->device)) return say(cudaErrorStreamCaptureUnsupported);
    if (s->capture) return say(cudaErrorIllegalState);
    Capture *c = new Capture();
    c->id = ++captures_made;
    c->mode = mode;
    c->thread = pthread_self();
    c->origin = s;
    c->member.push_back(s);
    c->graph = std::make_shared<Graph>();
    c->graph->device = s->device;
    captures.push_back(c);
    s->capture = c;
    s->tails.clear();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    Entry entry("cudaStreamEndCapture");
    Stream *s = stream_of(stream);
    if (!s || !out) return say(s ? cudaErrorInvalidValue : cudaErrorInvalidResourceHandle);
    *out = nullptr;
    Capture *c = s->capture;
    if (!c) return say(cudaErrorIllegalState);
    if (c->mode != cudaStreamCaptureModeRelaxed && !pthread_equal(c->thread, pthread_self()))
        return say(cudaErrorStreamCaptureWrongThread);
    if (c->origin != s) {
        c->spoiled = true;
        return say(cudaErrorStreamCaptureUnmatched);
    }
    cudaError_t e = entry.answer ? entry.answer : c->spoiled ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    if (!e && !joined(c)) e = cudaErrorStreamCaptureUnjoined;
    if (!e) {
        graphs.push_back(new Held{ c->graph });
        *out = (cudaGraph_t)graphs.back();
    }
    end(c);
    return say(e);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    Entry entry("cudaStreamIsCapturing");
    if (entry.answer) return entry.answer;
    Stream *s = stream_of(stream);
    if (!s || !status) return say(s ? cudaErrorInvalidValue : cudaErrorInvalidResourceHandle);
    *status = !s->capture           ? cudaStreamCaptureStatusNone
              : s->capture->spoiled ? cudaStreamCaptureStatusInvalidated
                                    : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
    Entry entry("cudaGraphInstantiate", cudaErrorMemoryAllocation);
    if (entry.answer) return entry.answer;
    Held *held = find(graphs, graph);
    if (!out || !held || flags & ~(unsigned long long)cudaGraphInstantiateFlagUseNodePriority)
        return say(cudaErrorInvalidValue);
    executables.push_back(new Executable{ held->graph });
    *out = (cudaGraphExec_t)executables.back();
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
    Entry entry("cudaGraphUpload", cudaErrorMemoryAllocation);
    if (entry.answer) return entry.answer;
    if (!find(executables, exec)) return say(cudaErrorInvalidValue);
    return stream_of(stream) ? cudaSuccess : say(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    Entry entry("cudaGraphLaunch", cudaErrorLaunchOutOfResources);
    if (entry.answer) return entry.answer;
    Executable *x = find(executables, exec);
    Stream *s = stream_of(stream);
    if (!x || !s) return say(x ? cudaErrorInvalidResourceHandle : cudaErrorInvalidValue);
    auto r = std::make_shared<Replay>();
    r->graph = x->graph;
    r->left = x->graph->node.size();
    r->done.assign(r->left, false);
    return say(enqueue(s, "cudaGraphLaunch", [r] { return replay(r.get()); }));
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    Entry entry("cudaGraphGetNodes");
    if (entry.answer) return entry.answer;
    Held *held = find(graphs, graph);
    if (!held || !count) return say(cudaErrorInvalidValue);
    size_t n = held->graph->node.size();
    for (size_t i = 0; nodes && i < *count; i++) nodes[i] = i < n ? (cudaGraphNode_t)&held->graph->node[i] : nullptr;
    if (!nodes || *count > n) *count = n;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    Entry entry("cudaGraphExecDestroy");
    return remove(&executables, exec) ? entry.answer : say(cudaErrorInvalidValue);
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    Entry entry("cudaGraphDestroy");
    return remove(&graphs, graph) ? entry.answer : say(cudaErrorInvalidValue);
}
