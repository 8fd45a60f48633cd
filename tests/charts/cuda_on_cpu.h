// CUDA's words for a C++ compiler, so that the kernels run on any machine.
//
// A block's threads are real threads and __syncthreads is a real barrier: a missing one is a
// race that the pictures or the thread sanitizer show. Blocks run one after the other in one
// shared memory, which begins full of garbage and ends in a guard that no kernel may touch.
//
// g++ -std=c++20 -ffp-contract=off -DKERNELS='"charts.cu"' ... cuda_on_cpu.cpp

#pragma once

#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)

struct uint4 {
    unsigned x, y, z, w;
} __attribute__((aligned(16)));

struct Place {
    unsigned x;
};

static thread_local Place threadIdx, blockIdx;
static Place blockDim, gridDim;
static std::barrier<> *block_barrier;

static inline void __syncthreads() { block_barrier->arrive_and_wait(); }

static inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
    return {x, y, z, w};
}

static inline double __longlong_as_double(long long bits) {
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
