/* SPDX-License-Identifier: GPL-2.0 */
#include <stdlib.h>

#define GFP_KERNEL_ACCOUNT	0
#define kzalloc(size, gfp)	calloc(1, size)
#define kfree(p)		free(p)
#define get_zeroed_page(gfp)	((unsigned long)calloc(1, 4096))
#define free_page(addr)		free((void *)(addr))
#define kvzalloc(size, gfp)	calloc(1, size)
#define kcalloc(n, size, gfp)	calloc(n, size)
#define kvfree(p)		free(p)
#define kvfree_rcu(p, head)	free(p)
