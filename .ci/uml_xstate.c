/* Lets User-Mode Linux 6.1 run on processors whose extended state is larger than its buffer for it.
 *
 * That kernel keeps its guests' vector registers in 2696 bytes and hands them back by
 * PTRACE_SETREGSET. The machine's kernel takes the whole state or nothing: with AMX (8 KiB of tiles)
 * it answers EFAULT, and the guest's first process dies. Preloaded, this enlarges the buffer on its
 * way. Tiles are left in their initial state; nothing in the guest uses them.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    LARGEST = 16384,
    /* In the layout of XSAVE: a bit for each component that is not in its initial state. */
    COMPONENTS_IN_USE = 512,
    /* x87, SSE, AVX, AVX-512 (three) and the protection keys: what lies below 2696 bytes. */
    COMPONENTS_KEPT = 0xe7 | 1 << 9,
};

static long change(int request, pid_t pid, struct iovec *registers) {
    return syscall(SYS_ptrace, (long)request, (long)pid, (long)NT_X86_XSTATE, registers);
}

static long store(pid_t pid, const struct iovec *registers) {
    static char whole[LARGEST];
    struct iovec enlarged = {whole, sizeof whole};
    /* Read first, only to learn how long the whole state is. */
    if (change(PTRACE_GETREGSET, pid, &enlarged) != 0)
        return -1;
    if (enlarged.iov_len <= registers->iov_len)
        return change(PTRACE_SETREGSET, pid, (struct iovec *)registers);
    memset(whole + registers->iov_len, 0, enlarged.iov_len - registers->iov_len);
    memcpy(whole, registers->iov_base, registers->iov_len);
    uint64_t components;
    memcpy(&components, whole + COMPONENTS_IN_USE, sizeof components);
    components &= COMPONENTS_KEPT;
    memcpy(whole + COMPONENTS_IN_USE, &components, sizeof components);
    return change(PTRACE_SETREGSET, pid, &enlarged);
}

long ptrace(enum __ptrace_request request, ...) {
    static long (*next)(enum __ptrace_request, ...);
    __builtin_va_list arguments;
    __builtin_va_start(arguments, request);
    pid_t pid = __builtin_va_arg(arguments, pid_t);
    void *address = __builtin_va_arg(arguments, void *);
    void *data = __builtin_va_arg(arguments, void *);
    __builtin_va_end(arguments);
    if (request == PTRACE_SETREGSET && (uintptr_t)address == NT_X86_XSTATE)
        return store(pid, data);
    if (next == NULL)
        next = (long (*)(enum __ptrace_request, ...))dlsym(RTLD_NEXT, "ptrace");
    return next(request, pid, address, data);
}
