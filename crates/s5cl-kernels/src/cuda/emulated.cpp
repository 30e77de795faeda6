// The fibers behind emulated.hpp, and what a program starts kernels with. One launch at a time.
#include "emulated.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulated {

Lane* lane;
uint3 block_index, block_size, grid_size;
unsigned char* shared_memory;

namespace {

// Not a power of two, so that the stacks of a warp do not share a set of the caches.
constexpr size_t STACK_BYTES = (256 << 10) + 1344, SHARED_BYTES = 256 << 10;
// Passes in which every thread only waits, after which a kernel counts as stuck.
constexpr unsigned PATIENCE = 100000;

std::map<std::string, void (*)(void**)>& kernels() {
    static std::map<std::string, void (*)(void**)> all;
    return all;
}

struct Named { unsigned arrived = 0; };

std::vector<Lane> lanes;
std::vector<Warp> warps;
Named barriers[16];
unsigned alive, arrived;
bool is_backwards;
// Whether a thread did more than to ask for something again.
bool has_run;
void (*start)(void**);
void** start_arguments;
// Behind the largest shared memory there is; reading there is an error.
unsigned char* shared_end = nullptr;
const char* kernel_name = "";
unsigned char* stacks = nullptr;
size_t n_stacks = 0;

#if defined(__x86_64__)

// Pushes what a function must leave as it was, changes stacks, and pops the other fiber's.
extern "C" void emulated_switch(void** from, void* to);
asm(R"(
.text
.p2align 4
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

void* scheduler_stack;

void start_with(Lane& to) {
    lane = &to;
    emulated_switch(&scheduler_stack, to.stack_pointer);
}

void hand_over(Lane* to) {
    Lane& from = *lane;
    if (to) lane = to;
    emulated_switch(&from.stack_pointer, to ? to->stack_pointer : scheduler_stack);
}

void prepare(Lane& of, unsigned char* stack, void (*entry)()) {
    // Six saved registers, the address to return to, and one word so that the stack is aligned as
    // behind a call.
    void** top = reinterpret_cast<void**>(stack + STACK_BYTES) - 2;
    top[0] = reinterpret_cast<void*>(entry);
    top[1] = nullptr;
    of.stack_pointer = top - 6;
}

#else

ucontext_t scheduler;
std::vector<ucontext_t> contexts;

void start_with(Lane& to) {
    lane = &to;
    swapcontext(&scheduler, static_cast<ucontext_t*>(to.stack_pointer));
}

void hand_over(Lane* to) {
    Lane& from = *lane;
    if (to) lane = to;
    swapcontext(static_cast<ucontext_t*>(from.stack_pointer),
                to ? static_cast<ucontext_t*>(to->stack_pointer) : &scheduler);
}

void prepare(Lane& of, unsigned char* stack, void (*entry)()) {
    contexts.resize(lanes.size());
    ucontext_t& context = contexts[&of - lanes.data()];
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&context, entry, 0);
    of.stack_pointer = &context;
}

#endif

// Lets another thread of the warp go on, or else the other warps.
void leave() {
    const Warp& warp = *lane->warp;
    has_run = has_run || lane->state != State::polling;
    Lane* next = nullptr;
    for (unsigned i = 1, number = lane->number; i < warp.size && !next; ++i) {
        number = is_backwards ? (number == 0 ? warp.size : number) - 1
                              : (number + 1 == warp.size ? 0 : number + 1);
        if (warp.first[number].state == State::ready) next = &warp.first[number];
    }
    hand_over(next);
}

void release(State waiting, Lane* first, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        if (first[i].state == waiting) first[i].state = State::ready;
    }
}

void release_where_all_arrived() {
    Warp& warp = *lane->warp;
    if (warp.alive > 0 && warp.arrived == warp.alive) {
        warp.arrived = 0;
        release(State::in_warp, warp.first, warp.size);
    }
    if (alive > 0 && arrived == alive) {
        arrived = 0;
        release(State::in_block, lanes.data(), lanes.size());
    }
}

void wait_as(State state) {
    lane->state = state;
    release_where_all_arrived();
    if (lane->state != State::ready) leave();
}

void fiber() {
    start(start_arguments);
    if (lane->copies.length > 0) fail("a thread ended before its copies");
    lane->state = State::done;
    --alive;
    --lane->warp->alive;
    release_where_all_arrived();
    leave();
    fail("a thread went on after its end");
}

// Shared memory that ends, up to its alignment, where reading is an error.
void make_shared(size_t bytes) {
    const size_t page = sysconf(_SC_PAGESIZE);
    if (bytes > SHARED_BYTES) fail("more shared memory than any GPU has");
    if (!shared_end) {
        void* memory = mmap(nullptr, SHARED_BYTES + page, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) fail("no shared memory");
        shared_end = static_cast<unsigned char*>(memory) + SHARED_BYTES;
        mprotect(shared_end, page, PROT_NONE);
    }
    shared_memory = shared_end - (bytes + 1023) / 1024 * 1024;
}

void make_stacks(size_t n) {
    if (n <= n_stacks) return;
    if (stacks) munmap(stacks, n_stacks * STACK_BYTES);
    void* memory = mmap(nullptr, n * STACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) fail("no memory for stacks");
    stacks = static_cast<unsigned char*>(memory);
    n_stacks = n;
}

void run_block(unsigned n_lanes) {
    const unsigned n_warps = (n_lanes + WARP - 1) / WARP;
    warps.resize(n_warps);
    lanes.resize(n_lanes);
    make_stacks(n_lanes);
    alive = n_lanes;
    arrived = 0;
    for (Named& barrier : barriers) barrier = Named();
    memset(shared_memory, 0xff, shared_end - shared_memory);
    for (unsigned w = 0; w < n_warps; ++w) {
        Warp& warp = warps[w];
        warp.first = &lanes[w * WARP];
        warp.size = warp.alive = n_lanes - w * WARP < WARP ? n_lanes - w * WARP : WARP;
        warp.arrived = 0;
    }
    for (unsigned i = 0; i < n_lanes; ++i) {
        Lane& it = lanes[i];
        it.thread = {i % block_size.x, i / block_size.x % block_size.y,
                     i / block_size.x / block_size.y};
        it.number = i % WARP;
        it.warp = &warps[i / WARP];
        it.state = State::ready;
        it.parity = 0;
        it.copies.length = it.copies.groups = 0;
        prepare(it, stacks + i * STACK_BYTES, fiber);
    }
    unsigned idle = 0;
    while (alive > 0) {
        has_run = false;
        release(State::polling, lanes.data(), lanes.size());
        for (unsigned w = 0; w < n_warps; ++w) {
            const Warp& warp = warps[is_backwards ? n_warps - 1 - w : w];
            for (unsigned i = 0; i < warp.size; ++i) {
                Lane& it = warp.first[is_backwards ? warp.size - 1 - i : i];
                if (it.state == State::ready) start_with(it);
            }
        }
        idle = has_run ? 0 : idle + 1;
        if (idle > PATIENCE) fail("threads wait for each other for ever");
    }
}

}  // namespace

bool enter(const char* name, void (*kernel)(void**)) {
    kernels()[name] = kernel;
    return true;
}

void warp_barrier() {
    lane->warp->arrived += 1;
    wait_as(State::in_warp);
}

void block_barrier() {
    arrived += 1;
    wait_as(State::in_block);
}

void named_barrier(unsigned id, unsigned count) {
    Named& barrier = barriers[id];
    lane->named = id;
    if (++barrier.arrived < count) {
        lane->state = State::at_named;
        leave();
        return;
    }
    barrier.arrived = 0;
    for (Lane& other : lanes) {
        if (other.state == State::at_named && other.named == id) other.state = State::ready;
    }
}

void poll() {
    lane->state = State::polling;
    leave();
}

void fail(const char* what) {
    fprintf(stderr, "the emulated kernel %s: %s (block %u %u %u, thread %u)\n", kernel_name, what,
            block_index.x, block_index.y, block_index.z, unsigned(lane ? lane - lanes.data() : 0));
    abort();
}

}  // namespace emulated

#pragma GCC visibility push(default)

// Starts a kernel and waits for its end; 0 if there is no such kernel.
extern "C" int emulated_launch(const char* name, const unsigned* grid, const unsigned* block,
                               unsigned shared_bytes, void** arguments, int are_backwards) {
    using namespace emulated;
    const auto found = kernels().find(name);
    if (found == kernels().end()) return 0;
    kernel_name = name;
    make_shared(shared_bytes);
    start = found->second;
    start_arguments = arguments;
    is_backwards = are_backwards != 0;
    grid_size = {grid[0], grid[1], grid[2]};
    block_size = {block[0], block[1], block[2]};
    for (unsigned z = 0; z < grid[2]; ++z) {
        for (unsigned y = 0; y < grid[1]; ++y) {
            for (unsigned x = 0; x < grid[0]; ++x) {
                block_index = {x, y, z};
                run_block(block[0] * block[1] * block[2]);
            }
        }
    }
    return 1;
}

// Memory that ends where reading is an error, full of NaN.
extern "C" void* emulated_allocate(size_t bytes) {
    const size_t page = sysconf(_SC_PAGESIZE), whole = (bytes + 15) / 16 * 16;
    const size_t pages = (whole + page - 1) / page * page;
    unsigned char* memory = static_cast<unsigned char*>(mmap(
        nullptr, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (memory == MAP_FAILED) return nullptr;
    mprotect(memory + pages, page, PROT_NONE);
    memset(memory, 0xff, pages);
    return memory + pages - whole;
}

extern "C" void emulated_free(void* memory, size_t bytes) {
    const size_t page = sysconf(_SC_PAGESIZE), whole = (bytes + 15) / 16 * 16;
    const size_t pages = (whole + page - 1) / page * page;
    munmap(static_cast<unsigned char*>(memory) + whole - pages, pages + page);
}

#pragma GCC visibility pop
