// Chart pictures on a CUDA device, bit for bit those of the CPU.
//
// The specification is the text of geometry.py, ohlc.py, candlestick.py and indicators.py.
// Compile without fused multiply-add (-fmad=false): every double operation is rounded as IEEE
// says and in the order written there, or a price on an edge would change its row.
//
// One block draws one picture at a time, or a share of its bands, and takes the next:
//
//   1. rows    threads share the slots: scale, rows, volume heights, averages -> tables
//   2. draw    threads share the columns: each paints its own, top to bottom, into a band of
//              whole rows in shared memory. No two threads write one byte, so overlaps (wick,
//              body, lines) need no order between threads.
//   3. write   threads share 16-byte chunks: each goes to the picture by one store and is
//              blank again for the next band
//
// Steps 2 and 3 repeat band by band. Every byte of a picture is stored once. A band begins in
// shared memory at the same offset from a multiple of 16 as its target in device memory; bytes
// before the first and after the last whole chunk are stored one by one, since their chunks
// belong to other pictures too.
//
// The same text compiles as C++ for the tests, with __syncthreads as a barrier of threads.

#define MISSING (-1)
#define HALF (0.5 - 0x1p-20)

// Planes of the slots' table; the rows of the averages follow.
enum { OPEN, HIGH, LOW, CLOSE, VOLUME, DIRECTION, PLANES };

// What a column shows of its slot.
enum { NOTHING, OPEN_TICK, BAR, CLOSE_TICK, BODY, BODY_AND_WICK };

// One column: slot and part, the line that crosses it, and where on the line it lies.
struct __align__(16) Column {
    int slot_and_part;     // slot | part << 16
    int line;              // the slot at whose centre the line ends, or MISSING
    int step_and_reach;    // columns from the line's start | columns from start to end << 16
    float inverse;         // 1 / (2 * reach)
};

struct Market {
    const double *open, *high, *low, *close, *volume;   // [slots]
    const double *means;                                // [averages][slots], or null
    const int *lengths;                                 // [averages]
    long long slots;
    int history;                                        // longest average less one
};

struct Layout {
    const Column *columns;      // [width]
    const unsigned *colors;     // [13], red | green << 8 | blue << 16
    int window, height, width, price_rows, volume_rows, averages, thick, band_rows;
    unsigned blank;             // four bytes of background
};

// The parts of a block's memory.
struct Tables {
    double *partial;            // [4][threads]: highest, lowest, largest volume, peak of closes
    int *rows;                  // [PLANES + averages][window]
};

extern __shared__ __align__(16) unsigned char block_memory[];

static __device__ inline double infinity() { return __longlong_as_double(0x7ff0000000000000LL); }

static __device__ inline bool is_drawn(const Market &market, long long s, bool shown) {
    const double low = market.low[s], high = market.high[s];
    const double open = market.open[s], close = market.close[s], volume = market.volume[s];
    return shown & (low <= open) & (open <= high) & (low <= close) & (close <= high)
        & (fabs(low) < infinity()) & (fabs(high) < infinity())
        & (volume >= 0.0) & (volume < infinity());
}

// The close that averages read at slot `first + i`, NaN where there is none to be seen.
static __device__ inline double seen_close(
    const Market &market, long long first, int i, const unsigned char *shown
) {
    const long long s = first + i;
    const bool hidden = s < 0 || (shown && i >= 0 && !shown[i]);
    return hidden ? __longlong_as_double(0x7ff8000000000000LL) : market.close[s];
}

// Sums from the oldest candle to the newest; `scale` keeps those of the largest prices finite.
static __device__ double mean_close(
    const Market &market, long long first, int i, const unsigned char *shown, int length,
    double scale
) {
    double total = 0.0, seen = 0.0;
    for (int j = i - length + 1; j <= i; ++j) {
        const double price = seen_close(market, first, j, shown);
        if (price == price) {
            total += price * scale;
            seen += 1.0;
        }
    }
    return total / seen / scale;
}

// Highest high, lowest low, largest volume and largest close of the window, in partial[0], and
// whether each slot is drawn, in rows[HIGH].
static __device__ void measure_extent(
    const Market &market, const Layout &layout, const Tables &tables, long long first,
    const unsigned char *shown
) {
    const int thread = threadIdx.x, threads = blockDim.x;
    double top = -infinity(), bottom = infinity(), largest = 0.0, peak = 0.0;
    for (int i = thread; i < layout.window; i += threads) {
        const long long s = first + i;
        const bool drawn = is_drawn(market, s, !shown || shown[i]);
        if (drawn) {
            top = market.high[s] > top ? market.high[s] : top;
            bottom = market.low[s] < bottom ? market.low[s] : bottom;
            largest = market.volume[s] > largest ? market.volume[s] : largest;
        }
        tables.rows[HIGH * layout.window + i] = drawn ? 0 : MISSING;
    }
    int span = layout.window;
    if (layout.averages > 0 && !market.means) {
        span += market.history;
        for (int i = thread; i < span; i += threads) {
            const double price = fabs(seen_close(market, first, i - market.history, shown));
            peak = price > peak ? price : peak;
        }
    }
    double *tops = tables.partial, *bottoms = tops + threads;
    double *volumes = bottoms + threads, *peaks = volumes + threads;
    tops[thread] = top;
    bottoms[thread] = bottom;
    volumes[thread] = largest;
    peaks[thread] = peak;
    int half = 1;
    while (half < threads && half < span) half *= 2;
    __syncthreads();
    for (half /= 2; half > 0; half /= 2) {
        if (thread < half) {
            const int other = thread + half;
            tops[thread] = tops[other] > tops[thread] ? tops[other] : tops[thread];
            bottoms[thread] = bottoms[other] < bottoms[thread] ? bottoms[other] : bottoms[thread];
            volumes[thread] = volumes[other] > volumes[thread] ? volumes[other] : volumes[thread];
            peaks[thread] = peaks[other] > peaks[thread] ? peaks[other] : peaks[thread];
        }
        __syncthreads();
    }
}

static __device__ inline int price_row(double price, double top, double span, double last) {
    return (int)((top - price) / span * last + HALF);
}

// Rows of averages may lie outside the panel, by at most its height.
static __device__ inline int average_row(
    double mean, double top, double span, bool flat, int price_rows
) {
    const double gap = top - mean;
    double place;
    if (flat) {
        place = gap == 0.0 ? (double)((price_rows - 1) / 2) : gap * infinity();
    } else {
        place = floor(gap / span * (double)(price_rows - 1) + HALF);
    }
    if (!(place == place)) return 0;
    place = place < -(double)price_rows ? -(double)price_rows : place;
    return (int)(place > 2.0 * price_rows ? 2.0 * price_rows : place);
}

// Fill the tables for the window that begins at slot `first`.
static __device__ void measure(
    const Market &market, const Layout &layout, const Tables &tables, long long first,
    const unsigned char *shown
) {
    measure_extent(market, layout, tables, first, shown);
    const int thread = threadIdx.x, threads = blockDim.x, window = layout.window;
    double top = tables.partial[0];
    const double bottom = tables.partial[threads];
    const double largest = tables.partial[2 * threads], peak = tables.partial[3 * threads];
    const double scale = top - bottom < infinity() ? 1.0 : 0.25;
    const double mean_scale = peak > 0x1p960 ? 0x1p-64 : 1.0;
    top *= scale;
    const double span = top - bottom * scale, last = (double)(layout.price_rows - 1);
    const bool flat = span == 0.0;
    int *rows = tables.rows;
    for (int i = thread; i < window; i += threads) {
        if (rows[HIGH * window + i] == MISSING) continue;
        const long long s = first + i;
        const double open = market.open[s], close = market.close[s], volume = market.volume[s];
        const int middle = (layout.price_rows - 1) / 2;
        rows[OPEN * window + i] = flat ? middle : price_row(open * scale, top, span, last);
        rows[HIGH * window + i] =
            flat ? middle : price_row(market.high[s] * scale, top, span, last);
        rows[LOW * window + i] = flat ? middle : price_row(market.low[s] * scale, top, span, last);
        rows[CLOSE * window + i] = flat ? middle : price_row(close * scale, top, span, last);
        rows[DIRECTION * window + i] = 1 + (close > open) - (close < open);
        int tall = 0;
        if (layout.volume_rows > 0 && volume > 0.0) {
            tall = (int)(volume / largest * (double)layout.volume_rows + HALF);
            tall = tall < 1 ? 1 : tall;
        }
        rows[VOLUME * window + i] = tall;
        for (int k = 0; k < layout.averages; ++k) {
            const double mean = market.means
                ? market.means[k * market.slots + s]
                : mean_close(market, first, i, shown, market.lengths[k], mean_scale);
            rows[(PLANES + k) * window + i] =
                average_row(mean * scale, top, span, flat, layout.price_rows);
        }
    }
    __syncthreads();
}

// A band of whole rows in shared memory.
struct Band {
    unsigned char *pixels;
    int first, end, pitch;      // rows first .. end - 1 of the picture, bytes a row
};

template <int CHANNELS>
static __device__ inline void paint(
    const Band &band, int column, int first, int last, unsigned color
) {
    first = first < band.first ? band.first : first;
    last = last < band.end ? last : band.end - 1;
    unsigned char *at = band.pixels + (first - band.first) * band.pitch + column * CHANNELS;
    #pragma unroll 2
    for (int row = first; row <= last; ++row, at += band.pitch) {
        at[0] = (unsigned char)color;
        if (CHANNELS == 3) {
            at[1] = (unsigned char)(color >> 8);
            at[2] = (unsigned char)(color >> 16);
        }
    }
}

// floor(numerator / denominator): a float's quotient is wrong by at most one.
static __device__ inline int floor_divide(int numerator, int denominator, float inverse) {
    int quotient = (int)floorf((float)numerator * inverse);
    const int rest = numerator - quotient * denominator;
    quotient += rest >= denominator;
    quotient -= rest < 0;
    return quotient;
}

template <int CHANNELS>
static __device__ void paint_candle(
    const Layout &layout, const int *rows, const Band &band, int x, int slot, int part
) {
    const int window = layout.window;
    const int high = rows[HIGH * window + slot];
    if (high == MISSING) return;
    const int low = rows[LOW * window + slot];
    const int open = rows[OPEN * window + slot], close = rows[CLOSE * window + slot];
    const int foot = layout.height - rows[VOLUME * window + slot];
    if (CHANNELS == 1) {
        const unsigned ink = layout.colors[0];
        if (part == OPEN_TICK) {
            paint<1>(band, x, open, open, ink);
        } else if (part == CLOSE_TICK) {
            paint<1>(band, x, close, close, ink);
        } else {
            paint<1>(band, x, high, low, ink);
            paint<1>(band, x, foot, layout.height - 1, ink);
        }
    } else {
        const unsigned *colors = layout.colors + rows[DIRECTION * window + slot];
        if (part == BODY_AND_WICK) paint<3>(band, x, high, low, colors[3]);
        paint<3>(band, x, open < close ? open : close, open < close ? close : open, colors[0]);
        paint<3>(band, x, foot, layout.height - 1, colors[6]);
    }
}

template <int CHANNELS>
static __device__ void paint_lines(
    const Layout &layout, const int *rows, const Band &band, int x, const Column &column
) {
    const int window = layout.window, end = column.line;
    if (rows[HIGH * window + end] == MISSING) return;
    const int step = column.step_and_reach & 0xffff, reach = column.step_and_reach >> 16;
    const bool joined = end > 0 && rows[HIGH * window + end - 1] != MISSING;
    if (!joined && step != reach) return;
    for (int k = 0; k < layout.averages; ++k) {
        const int *line = rows + (PLANES + k) * window + end;
        int first = line[0], last = first;
        if (joined) {
            const int begin = line[-1], rise = first - begin;
            const int row = begin + floor_divide(2 * step * rise + reach, 2 * reach, column.inverse);
            const int before =
                begin + floor_divide(2 * (step - 1) * rise + reach, 2 * reach, column.inverse);
            first = before < row ? before + 1 : row;
            last = before > row ? before - 1 : row;
        }
        last += layout.thick - 1;
        first = first < 0 ? 0 : first;
        last = last < layout.price_rows ? last : layout.price_rows - 1;
        paint<CHANNELS>(band, x, first, last, layout.colors[CHANNELS == 1 ? 0 : 9 + k]);
    }
}

// Store the bytes of the band at `target` and leave the chunks blank.
static __device__ inline void write_band(
    uint4 *chunks, unsigned char *target, int bytes, unsigned blank
) {
    const int thread = threadIdx.x, threads = blockDim.x;
    const int shift = (int)((unsigned long long)target & 15), end = shift + bytes;
    const int first = shift > 0, stop = end / 16;       // whole chunks
    const uint4 empty = make_uint4(blank, blank, blank, blank);
    unsigned char *aligned = target - shift;
    uint4 *whole = (uint4 *)aligned;
    int c = first + thread;
    // Four loads in flight before the first store.
    for (; c + 3 * threads < stop; c += 4 * threads) {
        const int c1 = c + threads, c2 = c1 + threads, c3 = c2 + threads;
        const uint4 v0 = chunks[c], v1 = chunks[c1], v2 = chunks[c2], v3 = chunks[c3];
        whole[c] = v0;
        whole[c1] = v1;
        whole[c2] = v2;
        whole[c3] = v3;
        chunks[c] = empty;
        chunks[c1] = empty;
        chunks[c2] = empty;
        chunks[c3] = empty;
    }
    for (; c < stop; c += threads) {
        whole[c] = chunks[c];
        chunks[c] = empty;
    }
    unsigned char *pixels = (unsigned char *)chunks;
    const int head = end < 16 ? end : 16;
    #pragma unroll 1
    for (int at = first ? shift + thread : head; at < head; at += threads) {
        aligned[at] = pixels[at];
        pixels[at] = (unsigned char)blank;
    }
    #pragma unroll 1
    for (int at = 16 * (stop > first ? stop : first) + thread; at < end; at += threads) {
        aligned[at] = pixels[at];
        pixels[at] = (unsigned char)blank;
    }
}

template <int CHANNELS>
static __device__ void draw(
    const Market &market, const Layout &layout, const Tables &tables, const long long *starts,
    const unsigned char *visible, long long count, int shares, unsigned char *out
) {
    const int pitch = layout.width * CHANNELS;
    uint4 *chunks = (uint4 *)block_memory;
    const int chunk_count = (layout.band_rows * pitch + 15) / 16 + 1;
    for (int c = threadIdx.x; c < chunk_count; c += blockDim.x) {
        chunks[c] = make_uint4(layout.blank, layout.blank, layout.blank, layout.blank);
    }
    for (long long item = blockIdx.x; item < count * shares; item += gridDim.x) {
        const long long n = item / shares;
        const int share = (int)(item - n * shares);
        unsigned char *picture = out + n * layout.height * pitch;
        measure(
            market, layout, tables, starts[n], visible ? visible + n * layout.window : nullptr
        );
        const int stride = shares * layout.band_rows;
        for (int row = share * layout.band_rows; row < layout.height; row += stride) {
            unsigned char *target = picture + (long long)row * pitch;
            Band band;
            band.pixels = block_memory + ((unsigned long long)target & 15);
            band.first = row;
            band.end =
                row + layout.band_rows < layout.height ? row + layout.band_rows : layout.height;
            band.pitch = pitch;
            for (int x = threadIdx.x; x < layout.width; x += blockDim.x) {
                const Column column = layout.columns[x];
                const int part = column.slot_and_part >> 16;
                if (part != NOTHING) {
                    paint_candle<CHANNELS>(
                        layout, tables.rows, band, x, column.slot_and_part & 0xffff, part
                    );
                }
                if (layout.averages > 0 && column.line != MISSING) {
                    paint_lines<CHANNELS>(layout, tables.rows, band, x, column);
                }
            }
            __syncthreads();
            write_band(chunks, target, (band.end - band.first) * pitch, layout.blank);
            __syncthreads();
        }
    }
}

// Four kernels: one or three bytes a pixel, tables in shared memory or, where those of a long
// window do not fit, in `scratch`, int[gridDim.x][PLANES + averages][window].
#define DRAW(NAME, CHANNELS, ROWS)                                                              \
    extern "C" __global__ void __launch_bounds__(256, 4) NAME(                                  \
        const double *open, const double *high, const double *low, const double *close,         \
        const double *volume, const double *means, const int *lengths, const Column *columns,   \
        const unsigned *colors, const long long *starts, const unsigned char *visible,          \
        int *scratch, unsigned char *out, long long slots, long long count, int shares,         \
        int history, int window, int height, int width, int price_rows, int volume_rows,        \
        int averages, int thick, int band_rows, unsigned blank                                  \
    ) {                                                                                         \
        const Market market = {open, high, low, close, volume, means, lengths, slots, history}; \
        const Layout layout = {                                                                 \
            columns, colors, window, height, width, price_rows, volume_rows, averages, thick,   \
            band_rows, blank,                                                                   \
        };                                                                                      \
        const int band_bytes = (band_rows * width * CHANNELS + 15) / 16 * 16 + 16;              \
        Tables tables;                                                                          \
        tables.partial = (double *)(block_memory + band_bytes);                                 \
        tables.rows = ROWS;                                                                     \
        draw<CHANNELS>(market, layout, tables, starts, visible, count, shares, out);            \
    }

#define IN_SHARED (int *)(tables.partial + 4 * blockDim.x)
#define IN_SCRATCH scratch + (long long)blockIdx.x * (PLANES + averages) * window

DRAW(draw_levels, 1, IN_SHARED)
DRAW(draw_levels_scratch, 1, IN_SCRATCH)
DRAW(draw_colors, 3, IN_SHARED)
DRAW(draw_colors_scratch, 3, IN_SCRATCH)

// Averages of every slot once, double[averages][slots], NaN in slots without a candle. They hold
// for all windows that hide nothing, as long as no close is above 2^960.
extern "C" __global__ void __launch_bounds__(256) average_slots(
    const double *close, const int *lengths, double *means, long long slots, int averages
) {
    const Market market = {
        nullptr, nullptr, nullptr, close, nullptr, nullptr, lengths, slots, 0,
    };
    const long long total = slots * averages;
    for (long long at = (long long)blockIdx.x * blockDim.x + threadIdx.x; at < total;
         at += (long long)gridDim.x * blockDim.x) {
        const int k = (int)(at / slots);
        const long long s = at - k * slots;
        means[at] = close[s] == close[s] ? mean_close(market, s, 0, nullptr, lengths[k], 1.0)
                                         : __longlong_as_double(0x7ff8000000000000LL);
    }
}
