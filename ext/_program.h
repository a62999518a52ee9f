/* The register program of a strategy, run for 64 candidates at a time.  The twin is backtest/_pure/_machine_program.py.

   A register of numbers is a row of 64 lanes, a register of booleans a word whose bits are lanes.  One instruction is one loop
   over the lanes.  Lines and constants are not instructions: operands are pointers to rows. */
#ifndef BACKTEST_PROGRAM_H
#define BACKTEST_PROGRAM_H

#include <stdint.h>

#include "_vectors.h"

/* In the order of OPS in backtest/machine/program.py. */
enum { OP_ADD, OP_SUB, OP_MUL, OP_DIV, OP_MIN, OP_MAX, OP_NEG, OP_ABS, OP_SQRT, OP_COPY, OP_SELECT, OP_NUMBER, OP_LT, OP_LE,
       OP_EQ, OP_NE, OP_AND, OP_OR, OP_XOR, OP_ANDNOT, OP_NOT, OP_WCOPY, OP_WSELECT, OP_JUMP, N_OPS };

typedef struct { int32_t op, out, a, b, c; } machine_instruction;

#define NUMBERS_LOOP(result)                                                                                  \
    {                                                                                                         \
        double *out = (double *) rows[now->out];                                                              \
        const double *a = rows[now->a], *b = rows[now->b];                                                    \
        EACH_VECTOR(lane) {                                                                                   \
            vector x = vector_at(a + lane), y = vector_at(b + lane);                                          \
            vector_to(out + lane, result);                                                                    \
        }                                                                                                     \
        break;                                                                                                \
    }
#define NUMBER_LOOP(result)                                                                                   \
    {                                                                                                         \
        double *out = (double *) rows[now->out];                                                              \
        const double *a = rows[now->a];                                                                       \
        EACH_VECTOR(lane) {                                                                                   \
            vector x = vector_at(a + lane);                                                                   \
            vector_to(out + lane, result);                                                                    \
        }                                                                                                     \
        break;                                                                                                \
    }
#define COMPARE_LOOP(result)                                                                                  \
    {                                                                                                         \
        const double *a = rows[now->a], *b = rows[now->b];                                                    \
        uint64_t bits = 0;                                                                                    \
        EACH_VECTOR(lane) {                                                                                   \
            vector x = vector_at(a + lane), y = vector_at(b + lane);                                          \
            bits |= vector_bits(result) << lane;                                                              \
        }                                                                                                     \
        words[now->out] = bits;                                                                               \
        break;                                                                                                \
    }

/* Run instructions ``begin`` to ``end - 1``; ``live`` are the lanes that decide. */
static void run_program(const machine_instruction *code, int64_t begin, int64_t end, const double *const *rows, uint64_t *words,
                        uint64_t live)
{
    const machine_instruction *now = code + begin, *const last = code + end;
    for (; now < last; now++) {
        switch (now->op) {
        case OP_ADD: NUMBERS_LOOP(vector_plus(x, y))
        case OP_SUB: NUMBERS_LOOP(vector_minus(x, y))
        case OP_MUL: NUMBERS_LOOP(vector_times(x, y))
        case OP_DIV: NUMBERS_LOOP(vector_over(x, y))
        case OP_MIN: NUMBERS_LOOP(vector_min(x, y))
        case OP_MAX: NUMBERS_LOOP(vector_max(x, y))
        case OP_NEG: NUMBER_LOOP(vector_negative(x))
        case OP_ABS: NUMBER_LOOP(vector_abs(x))
        case OP_SQRT: NUMBER_LOOP(vector_sqrt(x))
        case OP_COPY: NUMBER_LOOP(x)
        case OP_SELECT: {
            double *out = (double *) rows[now->out];
            const double *b = rows[now->b], *c = rows[now->c];
            uint64_t which = words[now->a];
            EACH_VECTOR(lane)
                vector_to(out + lane, vector_select(vector_mask_of(which, lane), vector_at(b + lane), vector_at(c + lane)));
            break;
        }
        case OP_NUMBER: {
            double *out = (double *) rows[now->out];
            uint64_t which = words[now->a];
            EACH_VECTOR(lane)
                vector_to(out + lane, vector_select(vector_mask_of(which, lane), vector_all(1.0), vector_all(0.0)));
            break;
        }
        case OP_LT: COMPARE_LOOP(vector_less(x, y))
        case OP_LE: COMPARE_LOOP(vector_at_most(x, y))
        case OP_EQ: COMPARE_LOOP(vector_equal(x, y))
        case OP_NE: COMPARE_LOOP(vector_unequal(x, y))
        case OP_AND: words[now->out] = words[now->a] & words[now->b]; break;
        case OP_OR: words[now->out] = words[now->a] | words[now->b]; break;
        case OP_XOR: words[now->out] = words[now->a] ^ words[now->b]; break;
        case OP_ANDNOT: words[now->out] = words[now->a] & ~words[now->b]; break;
        case OP_NOT: words[now->out] = ~words[now->a]; break;
        case OP_WCOPY: words[now->out] = words[now->a]; break;
        case OP_WSELECT: words[now->out] = (words[now->a] & words[now->b]) | (~words[now->a] & words[now->c]); break;
        case OP_JUMP:
            if (!(words[now->a] & live)) now = code + now->b - 1;
            break;
        default: break;
        }
    }
}

#undef NUMBERS_LOOP
#undef NUMBER_LOOP
#undef COMPARE_LOOP

#endif
