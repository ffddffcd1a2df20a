// A driver, NVRTC and cuDNN that do what is asked for in memory of the host, as late as they may: work on a stream is done only when
// somebody waits for it. What is not kept in order by events, or uses memory that was given back, shows.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_SUCH = 500, NOT_READY = 600, CAPTURING = 900 };
enum { MEMORY = 1 << 30, SMALL = 64 << 10 };

typedef struct Event {
    struct Stream *stream;
    long asked, reached;
} Event;

typedef enum { COPY, FILL, RECORD, WAIT, FREE, KERNEL } Kind;

typedef struct Op {
    Kind kind;
    void *to;
    const void *from;
    void *kept; // bytes of the command itself
    size_t bytes;
    int value;
    Event *event;
    long turn;
    struct Op *next;
} Op;

typedef struct List {
    Op *first, *last;
} List;

typedef struct Stream {
    List work, captured;
    int capturing;
} Stream;

static size_t live;
static struct {
    char *address;
    size_t bytes;
} pinned[64], pooled[4096];

static void append(List *list, Op op) {
    Op *copy = malloc(sizeof(Op));
    *copy = op;
    copy->next = NULL;
    if (list->last) list->last->next = copy;
    else list->first = copy;
    list->last = copy;
}

static void submit(Stream *stream, Op op) { append(stream->capturing ? &stream->captured : &stream->work, op); }

static void progress(Stream *stream, const Event *until);

static void run(Op *op) {
    switch (op->kind) {
    case COPY: memcpy(op->to, op->kept ? op->kept : op->from, op->bytes); break;
    case FILL: memset(op->to, op->value, op->bytes); break;
    case RECORD: op->event->reached = op->turn; break;
    case WAIT: {
        Event until = *op->event;
        until.asked = op->turn;
        while (op->event->reached < op->turn) progress(op->event->stream, &until);
        break;
    }
    case FREE:
        for (int i = 0; i < 4096; i++)
            if (pooled[i].address == op->to) {
                memset(pooled[i].address, 0xdd, pooled[i].bytes);
                live -= pooled[i].bytes;
                free(pooled[i].address);
                pooled[i].address = NULL;
                return;
            }
        fprintf(stderr, "fake: freed twice\n");
        abort();
    case KERNEL:
        for (size_t i = 0; i < op->bytes; i++) ((int *)op->to)[i] += op->value;
        break;
    }
}

// Until an event, or all of it.
static void progress(Stream *stream, const Event *until) {
    while (stream->work.first) {
        Op *op = stream->work.first;
        stream->work.first = op->next;
        if (!op->next) stream->work.last = NULL;
        int is_last = until && op->kind == RECORD && op->event->stream == until->stream && op->turn == until->asked;
        run(op);
        free(op);
        if (is_last) return;
    }
}

static int is_pinned(const void *address) {
    for (int i = 0; i < 64; i++)
        if (pinned[i].address && (char *)address >= pinned[i].address && (char *)address < pinned[i].address + pinned[i].bytes) return 1;
    return 0;
}

int cuInit(unsigned flags) { return SUCCESS; }
int cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
int cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
int cuDeviceGet(int *device, int index) { return *device = index, index == 0 ? SUCCESS : INVALID_VALUE; }
int cuDeviceGetName(char *name, int len, int device) { return snprintf(name, len, "fake"), SUCCESS; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = MEMORY, SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 1000000;
    return SUCCESS;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { return *context = &live, SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int device) {
    if (live == 0) return SUCCESS;
    fprintf(stderr, "fake: %zu bytes were never given back\n", live);
    abort();
}
int cuCtxSetCurrent(void *context) { return SUCCESS; }
int cuGetErrorString(int error, const char **text) { return *text = error == CAPTURING ? "capturing" : "failed", SUCCESS; }

int cuStreamCreate(Stream **stream, unsigned flags) { return *stream = calloc(1, sizeof(Stream)), SUCCESS; }
int cuStreamDestroy_v2(Stream *stream) { return progress(stream, NULL), SUCCESS; }
int cuStreamSynchronize(Stream *stream) { return stream->capturing ? CAPTURING : (progress(stream, NULL), SUCCESS); }
int cuStreamWaitEvent(Stream *stream, Event *event, unsigned flags) {
    if (event->asked) submit(stream, (Op){.kind = WAIT, .event = event, .turn = event->asked});
    return SUCCESS;
}
int cuEventCreate(Event **event, unsigned flags) { return *event = calloc(1, sizeof(Event)), SUCCESS; }
// The last that is heard of it: what still refers to it is done first.
int cuEventDestroy_v2(Event *event) {
    if (event->stream) progress(event->stream, NULL);
    return SUCCESS;
}
int cuEventRecord(Event *event, Stream *stream) {
    event->stream = stream;
    submit(stream, (Op){.kind = RECORD, .event = event, .turn = ++event->asked});
    return SUCCESS;
}
int cuEventQuery(Event *event) { return event->reached < event->asked ? NOT_READY : SUCCESS; }
int cuEventSynchronize(Event *event) {
    while (event->reached < event->asked) progress(event->stream, event);
    return SUCCESS;
}

int cuDeviceGetDefaultMemPool(void **pool, int device) { return *pool = &live, SUCCESS; }
int cuMemPoolSetAttribute(void *pool, int attribute, void *value) { return attribute == 4 ? SUCCESS : INVALID_VALUE; }
int cuMemPoolTrimTo(void *pool, size_t bytes) { return SUCCESS; }
int cuMemGetInfo_v2(size_t *free, size_t *total) { return *free = MEMORY - live, *total = MEMORY, SUCCESS; }
int cuMemAllocAsync(char **address, size_t bytes, Stream *stream) {
    if (stream->capturing) return CAPTURING;
    if (bytes > MEMORY - live) return OUT_OF_MEMORY;
    for (int i = 0; i < 4096; i++)
        if (!pooled[i].address) {
            *address = pooled[i].address = aligned_alloc(256, (bytes + 255) / 256 * 256);
            memset(*address, 0xaa, pooled[i].bytes = bytes);
            live += bytes;
            return SUCCESS;
        }
    return OUT_OF_MEMORY;
}
int cuMemFreeAsync(void *address, Stream *stream) {
    submit(stream, (Op){.kind = FREE, .to = address});
    return stream->capturing ? CAPTURING : SUCCESS;
}
int cuMemHostAlloc(char **memory, size_t bytes, unsigned flags) {
    for (int i = 0; i < 64; i++)
        if (!pinned[i].address) return *memory = pinned[i].address = malloc(pinned[i].bytes = bytes), SUCCESS;
    return OUT_OF_MEMORY;
}
int cuMemFreeHost(char *memory) {
    for (int i = 0; i < 64; i++)
        if (pinned[i].address == memory) return pinned[i].address = NULL, free(memory), SUCCESS;
    return INVALID_VALUE;
}
int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t bytes, Stream *stream) {
    Op op = {.kind = COPY, .to = to, .from = from, .bytes = bytes};
    if (!is_pinned(from)) {
        if (bytes > SMALL) progress(stream, NULL);
        op.kept = memcpy(malloc(bytes + 1), from, bytes);
    }
    return submit(stream, op), SUCCESS;
}
int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t bytes, Stream *stream) {
    submit(stream, (Op){.kind = COPY, .to = to, .from = from, .bytes = bytes});
    if (!is_pinned(to)) progress(stream, NULL);
    return SUCCESS;
}
int cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t bytes, Stream *stream) {
    return submit(stream, (Op){.kind = COPY, .to = to, .from = from, .bytes = bytes}), SUCCESS;
}
int cuMemsetD8Async(void *to, unsigned char value, size_t count, Stream *stream) {
    return submit(stream, (Op){.kind = FILL, .to = to, .value = value, .bytes = count}), SUCCESS;
}

// The code of a kernel is its source.
int cuModuleLoadData(char **module, const char *code) {
    return strncmp(code, "extern", 6) ? INVALID_VALUE : (*module = strdup(code), SUCCESS);
}
int cuModuleUnload(char *module) { return free(module), SUCCESS; }
int cuModuleGetFunction(char **function, char *module, const char *name) {
    return (*function = strstr(module, name)) ? SUCCESS : NO_SUCH;
}
// Every kernel is add(int *to, int value, long long count).
int cuLaunchKernel(char *function, unsigned x, unsigned y, unsigned z, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   Stream *stream, void **parameters, void **extra) {
    Op op = {.kind = KERNEL, .to = *(void **)parameters[0], .value = *(int *)parameters[1], .bytes = *(long long *)parameters[2]};
    return submit(stream, op), SUCCESS;
}

int cuStreamBeginCapture_v2(Stream *stream, int mode) { return stream->capturing = 1, SUCCESS; }
int cuStreamEndCapture(Stream *stream, List **graph) {
    *graph = malloc(sizeof(List));
    **graph = stream->captured;
    stream->captured = (List){0};
    return stream->capturing = 0, SUCCESS;
}
int cuGraphInstantiateWithFlags(List **executable, List *graph, unsigned long long flags) {
    *executable = malloc(sizeof(List));
    **executable = *graph;
    return SUCCESS;
}
int cuGraphDestroy(List *graph) { return free(graph), SUCCESS; }
int cuGraphExecDestroy(List *executable) { return free(executable), SUCCESS; }
int cuGraphLaunch(List *executable, Stream *stream) {
    for (Op *op = executable->first; op; op = op->next) submit(stream, *op);
    return SUCCESS;
}

static const char *text;
int nvrtcVersion(int *major, int *minor) { return *major = 13, *minor = 0, SUCCESS; }
int nvrtcGetNumSupportedArchs(int *count) { return *count = 2, SUCCESS; }
int nvrtcGetSupportedArchs(int *known) { return known[0] = 80, known[1] = 90, SUCCESS; }
const char *nvrtcGetErrorString(int error) { return "failed"; }
int nvrtcCreateProgram(char **program, const char *source, const char *name, int headers, void *a, void *b) {
    return *program = strdup(source), SUCCESS;
}
int nvrtcDestroyProgram(char **program) { return free(*program), SUCCESS; }
int nvrtcCompileProgram(char *program, int count, const char *const *options) {
    if (count < 1 || strcmp(options[0], "--gpu-architecture=sm_90")) return 5;
    return strstr(program, "#error") ? 6 : SUCCESS;
}
int nvrtcGetProgramLogSize(char *program, size_t *len) { return *len = sizeof "says no", SUCCESS; }
int nvrtcGetProgramLog(char *program, char *log) { return strcpy(log, "says no"), SUCCESS; }
int nvrtcGetCUBINSize(char *program, size_t *len) { return *len = strlen(program) + 1, SUCCESS; }
int nvrtcGetCUBIN(char *program, char *code) { return strcpy(code, program), SUCCESS; }

size_t cudnnGetVersion(void) { return 91900; }
