// Known statistics of batch normalization: what normalizes by them, and how running ones move; all of
// a network at once.
//
// Grid: one block for each normalization or vector of statistics. Block: 256 threads. Shared: none.
// Nothing is summed.
#include "device.cuh"

constexpr unsigned MOST_KNOWN = 64, MOST_RUNNING = 160;

// A normalization by known statistics, and where its scale and shift go, [2, channels].
struct Known {
    const float *weight, *bias, *mean, *variance;
    float* affine;
    double epsilon;
    uint64_t channels;
};

// All that a launch takes within the 4 KiB that every driver allows it.
struct AllKnown { Known of[MOST_KNOWN]; };

KERNEL(256) batch_norm_known(const __grid_constant__ AllKnown all) {
    const Known& by = all.of[blockIdx.x];
    for (uint64_t channel = threadIdx.x; channel < by.channels; channel += blockDim.x) {
        const double deviation = sqrt(double(by.variance[channel]) + by.epsilon);
        const double scale = double(by.weight[channel]) / deviation;
        by.affine[channel] = float(scale);
        by.affine[by.channels + channel] =
            float(double(by.bias[channel]) - double(by.mean[channel]) * scale);
    }
}
EXPORT(batch_norm_known);

// Running statistics and those of a batch.
struct Running {
    float* running;
    const float* of_batch;
    uint64_t n;
};
struct AllRunning { Running of[MOST_RUNNING]; };

KERNEL(256) batch_norm_running(const __grid_constant__ AllRunning all, float kept, float share) {
    const Running& it = all.of[blockIdx.x];
    for (uint64_t i = threadIdx.x; i < it.n; i += blockDim.x) {
        it.running[i] = it.running[i] * kept + it.of_batch[i] * share;
    }
}
EXPORT(batch_norm_running);
