#ifndef GEMLET_EXPORT_H
#define GEMLET_EXPORT_H

/* GEMLET_API marks what the shared library exports, in C and in C++; GEMLET_HIDDEN what an exported class keeps inside.
 * A program for Windows that links the static library defines GEMLET_STATIC, which find_package's target does by
 * itself. GEMLET_BUILDING is for gemlet's own sources. */
#if defined(_WIN32)
#if defined(GEMLET_BUILDING)
#define GEMLET_API __declspec(dllexport)
#elif defined(GEMLET_STATIC)
#define GEMLET_API
#else
#define GEMLET_API __declspec(dllimport)
#endif
#define GEMLET_HIDDEN
#else
#define GEMLET_API __attribute__((visibility("default")))
#define GEMLET_HIDDEN __attribute__((visibility("hidden")))
#endif

#endif
