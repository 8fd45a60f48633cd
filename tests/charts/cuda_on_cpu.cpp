// Runs the chart kernels on the CPU: as a library by `launch`, as a program from a file of calls.

#include "cuda_on_cpu.h"

#include KERNELS

static const int SHARED_LIMIT = 64 * 1024, GUARD = 256;
alignas(16) unsigned char block_memory[SHARED_LIMIT + GUARD];

template <class... Arguments, std::size_t... Index>
static void call(
    void (*kernel)(Arguments...), void **arguments, std::index_sequence<Index...>
) {
    kernel(*static_cast<Arguments *>(arguments[Index])...);
}

// 0, or 1 where a kernel wrote past its shared memory.
template <class... Arguments>
static int run(
    void (*kernel)(Arguments...), int grid, int threads, int shared_bytes, void **arguments
) {
    std::barrier<> barrier(threads);
    block_barrier = &barrier;
    blockDim = {unsigned(threads)};
    gridDim = {unsigned(grid)};
    bool guarded = true;
    auto work = [&](int thread) {
        threadIdx = {unsigned(thread)};
        for (int block = 0; block < grid; ++block) {
            if (thread == 0) std::memset(block_memory, 0xcd, sizeof block_memory);
            barrier.arrive_and_wait();
            blockIdx = {unsigned(block)};
            call(kernel, arguments, std::index_sequence_for<Arguments...>{});
            barrier.arrive_and_wait();
            for (int at = shared_bytes; thread == 0 && at < shared_bytes + GUARD; ++at) {
                guarded &= block_memory[at] == 0xcd;
            }
        }
    };
    std::vector<std::thread> others;
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(work, thread);
    work(0);
    for (auto &other : others) other.join();
    return guarded ? 0 : 1;
}

// As cuLaunchKernel: each argument is a pointer to its value. 2: no such kernel.
extern "C" int launch(
    const char *name, int grid, int threads, int shared_bytes, void **arguments
) {
    const std::string wanted = name;
#define TRY(KERNEL) \
    if (wanted == #KERNEL) return run(KERNEL, grid, threads, shared_bytes, arguments);
    TRY(draw_levels)
    TRY(draw_levels_scratch)
    TRY(draw_colors)
    TRY(draw_colors_scratch)
    TRY(average_slots)
    return 2;
}

#ifdef PROGRAM
static int64_t number(FILE *file) {
    int64_t value = 0;
    if (std::fread(&value, sizeof value, 1, file) != 1) std::exit(3);
    return value;
}

// A file of calls: grid, threads, shared bytes, argument count, length and letters of the name;
// then of each argument whether it is an array, its bytes and their values. All numbers int64.
int main(int, char **paths) {
    FILE *file = std::fopen(paths[1], "rb");
    if (!file) return 3;
    for (int64_t calls = number(file); calls > 0; --calls) {
        const int grid = int(number(file)), threads = int(number(file));
        const int shared_bytes = int(number(file));
        const int64_t count = number(file);
        std::string name(std::size_t(number(file)), ' ');
        if (std::fread(name.data(), 1, name.size(), file) != name.size()) return 3;
        std::vector<std::vector<uint4>> values(count);
        std::vector<void *> pointers(count), arguments(count);
        for (int64_t at = 0; at < count; ++at) {
            const bool is_array = number(file) != 0;
            const std::size_t bytes = std::size_t(number(file));
            values[at].resize(bytes / 16 + 1);
            if (std::fread(values[at].data(), 1, bytes, file) != bytes) return 3;
            pointers[at] = values[at].data();
            arguments[at] = is_array ? static_cast<void *>(&pointers[at]) : pointers[at];
        }
        const int status = launch(name.c_str(), grid, threads, shared_bytes, arguments.data());
        if (status != 0) return status;
    }
    return std::fclose(file);
}
#endif
