// The most similar keys of each query.
//
// top_k_select  Grid: groups of tiles of 128 queries, parts of the keys. Block: 256 threads.
//               Shared: the stream (72 KiB) and a list for each warp where lists are short. Products
//               of 22 bits of each number, sums in f32. A warp has the lists of 16 queries.
// top_k_merge   Grid: queries. Block: 32 threads. Shared: a list, if there are several parts.
#include "../tiles.cuh"

constexpr unsigned WARPS = THREADS / WARP_SIZE, WARP_ROWS = TILE / WARPS;

// A key with its similarity as one number: the larger it is, the better is the key. The similarity
// is in the upper half, and in the lower one what is larger for lower indices.
using Neighbor = uint64_t;
constexpr Neighbor NO_NEIGHBOR = 0;

DEVICE Neighbor neighbor(float similarity, uint32_t index) {
    // Zeros of either sign are equal; a sum that is fused with a product can be below 0.
    const uint32_t bits = __float_as_uint(__fadd_rn(similarity, 0.0f));
    const uint32_t ordered = bits >> 31 ? ~bits : bits | 0x80000000u;
    return Neighbor(ordered) << 32 | uint32_t(~index);
}

DEVICE uint32_t index_of(Neighbor neighbor) { return ~uint32_t(neighbor); }

DEVICE float similarity_of(Neighbor neighbor) {
    if (neighbor == NO_NEIGHBOR) return -__builtin_huge_valf();
    const uint32_t ordered = uint32_t(neighbor >> 32);
    return __uint_as_float(ordered >> 31 ? ordered & 0x7fffffffu : ~ordered);
}

struct Search {
    Halves queries, keys;
    const float* query_scales;
    const float* key_scales;
    // The group of each query and of each key, or nothing.
    const uint32_t* query_groups;
    const uint32_t* key_groups;
    // Lists that are worked on [block, TILE, capacity], and those of each part [split, n_queries, k].
    Neighbor* lists;
    Neighbor* found;
    // Results [n_queries, k].
    uint32_t* indices;
    float* similarities;
    uint32_t n_queries, n_keys, width, k;
    // Places of a list, a power of two: at least `k` and COLS.
    uint32_t capacity;
    // Tiles of keys that a block takes, and how many blocks share those of a tile of queries.
    uint32_t split_tiles, n_splits;
    // Whether query i is key i, which is not its own neighbor; whether lists are sorted in shared
    // memory.
    uint32_t excludes_own, sorts_in_shared, unused;
};

// Puts the best first, of a power of two of places. The work of a warp.
DEVICE void sort(Neighbor* list, unsigned size) {
    const unsigned lane = threadIdx.x % WARP_SIZE;
    for (unsigned run = 2; run <= size; run *= 2) {
        for (unsigned step = run / 2; step > 0; step /= 2) {
            for (unsigned i = lane; i < size / 2; i += WARP_SIZE) {
                const unsigned low = 2 * i - (i & (step - 1)), high = low + step;
                const bool descends = (low & run) == 0;
                const Neighbor first = list[low], second = list[high];
                if ((first < second) == descends) {
                    list[low] = second;
                    list[high] = first;
                }
            }
            __syncwarp();
        }
    }
}

// Whether a query may find a key at all.
DEVICE bool may_find(const Search& search, unsigned query, uint32_t key) {
    if (key >= search.n_keys || (search.excludes_own && key == query)) return false;
    return !search.query_groups || search.query_groups[query] != search.key_groups[key];
}

// Leaves the best `k` of `count` neighbors that a query may find at the beginning of a list, in
// order; returns how many there are. `sorted` is where they are sorted, perhaps the list itself.
DEVICE unsigned keep_best(const Search& search, unsigned query, Neighbor* list, Neighbor* sorted,
                          unsigned count) {
    const unsigned lane = threadIdx.x % WARP_SIZE;
    unsigned size = WARP_SIZE, n_found = 0;
    while (size < count) size *= 2;
    for (unsigned i = lane; i < size; i += WARP_SIZE) {
        const Neighbor other = i < count ? list[i] : NO_NEIGHBOR;
        const bool is_found = i < count && may_find(search, query, index_of(other));
        n_found += __popc(__ballot_sync(WHOLE_WARP, is_found));
        sorted[i] = is_found ? other : NO_NEIGHBOR;
    }
    __syncwarp();
    sort(sorted, size);
    const unsigned kept = min(n_found, search.k);
    for (unsigned i = lane; i < kept; i += WARP_SIZE) list[i] = sorted[i];
    __syncwarp();
    return kept;
}

// The list of a query: places taken, what a similarity must exceed, and what products are multiplied
// with.
struct List {
    unsigned count;
    float least, scale;
};

// The queries of a warp with what was found for them.
struct WarpLists {
    const Search& search;
    unsigned first_query;
    Neighbor* lists;
    // In shared memory: where one of them is sorted, or nothing; what is known of each.
    Neighbor* shared;
    List* state;

    DEVICE Neighbor* list(unsigned row) const { return lists + row * search.capacity; }

    DEVICE void clear() {
        const unsigned row = threadIdx.x % WARP_SIZE;
        if (row < WARP_ROWS) {
            const unsigned query = first_query + row;
            const float infinity = __builtin_huge_valf();
            state[row] = {0, query < search.n_queries ? -infinity : infinity,
                          search.query_scales[query]};
        }
        __syncwarp();
    }

    DEVICE void shrink(unsigned row) {
        Neighbor* const all = list(row);
        Neighbor* const sorted = shared ? shared : all;
        const unsigned count =
            keep_best(search, first_query + row, all, sorted, state[row].count);
        if (threadIdx.x % WARP_SIZE == 0) {
            state[row].count = count;
            if (count == search.k) state[row].least = similarity_of(all[count - 1]);
        }
        __syncwarp();
    }

    // Enters what is better than what was found before, in any order. Keys come in the order of
    // their index, so that one as similar as the last of `k` is not better.
    DEVICE void take(const Similarities& values, unsigned col) {
        const unsigned lane = threadIdx.x % WARP_SIZE;
        const float least[2] = {state[lane / 4].least, state[lane / 4 + 8].least};
        const float scales[2] = {state[lane / 4].scale, state[lane / 4 + 8].scale};
        const unsigned own_col = col + 2 * (lane % 4);
        bool is_any = false;
#pragma unroll
        for (unsigned n = 0; n < COLS / 8; ++n) {
            const unsigned key = own_col + 8 * n;
            const float2 of_keys = *reinterpret_cast<const float2*>(search.key_scales + key);
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                const float of_key = i % 2 == 0 ? of_keys.x : of_keys.y;
                const float value = values[n][i] * (scales[i / 2] * of_key);
                if (!(value > least[i / 2])) continue;
                const unsigned row = lane / 4 + 8 * (i / 2);
                list(row)[atomicAdd(&state[row].count, 1u)] = neighbor(value, key + i % 2);
                is_any = true;
            }
        }
        if (!__any_sync(WHOLE_WARP, is_any)) return;
        __syncwarp();
#pragma unroll 1
        for (unsigned row = 0; row < WARP_ROWS; ++row) {
            if (state[row].count + COLS > search.capacity) shrink(row);
        }
    }

    DEVICE void finish(unsigned split) {
#pragma unroll 1
        for (unsigned row = 0; row < WARP_ROWS; ++row) {
            const unsigned query = first_query + row;
            if (query >= search.n_queries) return;
            shrink(row);
            Neighbor* const to =
                search.found + (size_t(split) * search.n_queries + query) * search.k;
            for (unsigned i = threadIdx.x % WARP_SIZE; i < search.k; i += WARP_SIZE) {
                to[i] = i < state[row].count ? list(row)[i] : NO_NEIGHBOR;
            }
            __syncwarp();
        }
    }
};

// A tile of queries with a part of the keys.
struct SearchPlan {
    const Search& search;
    unsigned row, col, end, piece = 0;

    DEVICE Pieces pieces() const { return {3, search.width / CHUNK}; }

    DEVICE void fetch(Stage& stage) {
        if (col >= end) return;
        pieces().fetch(search.queries, search.keys, stage, row, col, piece);
        if (++piece == pieces().count()) {
            piece = 0;
            col += COLS;
        }
    }
};

KERNEL(256, 2) top_k_select(const __grid_constant__ Search search) {
    DYNAMIC_SHARED(shared);
    __shared__ List state[TILE];
    const unsigned warp = threadIdx.x / WARP_SIZE;
    const unsigned block = blockIdx.y * gridDim.x + blockIdx.x, own = warp * WARP_ROWS;
    Neighbor* const lists = search.lists + (size_t(block) * TILE + own) * search.capacity;
    Neighbor* const sorted = reinterpret_cast<Neighbor*>(shared + STREAM_BYTES);
    const unsigned size = search.split_tiles * COLS, first = blockIdx.y * size;
    const unsigned end = min(first + size, search.n_keys);
    for (unsigned row = blockIdx.x * TILE; row < search.n_queries; row += gridDim.x * TILE) {
        WarpLists found = {search, row + own, lists,
                           search.sorts_in_shared ? sorted + warp * search.capacity : nullptr,
                           state + own};
        found.clear();
        Stream<SearchPlan> stream{shared, {search, row, first, end}};
        stream.start();
        for (unsigned col = first; col < end; col += COLS) {
            Similarities values;
            multiply_in_parts(values, stream, stream.plan.pieces());
            found.take(values, col);
        }
        stream.finish();
        found.finish(blockIdx.y);
    }
}
EXPORT(top_k_select);

// The best of what the parts of the keys gave a query.
DEVICE void merge(const Search& search, Neighbor* best, unsigned query) {
    const unsigned lane = threadIdx.x;
    unsigned count = 0;
    Neighbor least = NO_NEIGHBOR;
    for (unsigned split = 0; split < search.n_splits; ++split) {
        const Neighbor* const part =
            search.found + (size_t(split) * search.n_queries + query) * search.k;
        for (unsigned start = 0; start < search.k; start += WARP_SIZE) {
            const Neighbor other = start + lane < search.k ? part[start + lane] : NO_NEIGHBOR;
            const unsigned better = __ballot_sync(WHOLE_WARP, other > least);
            // What is behind is no better.
            if (better == 0) break;
            if (other > least) best[count + __popc(better & ((1u << lane) - 1))] = other;
            count += __popc(better);
            __syncwarp();
            if (count + WARP_SIZE > search.capacity) {
                count = keep_best(search, query, best, best, count);
                if (count == search.k) least = best[count - 1];
                __syncwarp();
            }
        }
    }
    count = keep_best(search, query, best, best, count);
    for (unsigned i = count + lane; i < search.k; i += WARP_SIZE) best[i] = NO_NEIGHBOR;
    __syncwarp();
}

KERNEL(32) top_k_merge(const __grid_constant__ Search search) {
    DYNAMIC_SHARED(shared);
    const unsigned query = blockIdx.x;
    const size_t start = size_t(query) * search.k;
    const Neighbor* best = search.found + start;
    if (search.n_splits > 1) {
        Neighbor* const merged = reinterpret_cast<Neighbor*>(shared);
        merge(search, merged, query);
        best = merged;
    }
    for (unsigned i = threadIdx.x; i < search.k; i += WARP_SIZE) {
        // The index of no neighbor is the largest there is.
        search.indices[start + i] = index_of(best[i]);
        search.similarities[start + i] = similarity_of(best[i]);
    }
}
EXPORT(top_k_merge);
