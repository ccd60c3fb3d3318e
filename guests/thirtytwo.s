# A 32-bit program without any library: says "ready", waits for input, says "unharmed".
    .globl _start
    .text
_start:
    movl $4, %eax
    movl $1, %ebx
    movl $ready, %ecx
    movl $6, %edx
    int $0x80
again:
    movl $3, %eax
    movl $0, %ebx
    movl $buffer, %ecx
    movl $64, %edx
    int $0x80
    testl %eax, %eax
    jle end
    cmpb $'f', buffer
    jne again
end:
    movl $4, %eax
    movl $1, %ebx
    movl $unharmed, %ecx
    movl $9, %edx
    int $0x80
    movl $1, %eax
    movl $0, %ebx
    int $0x80
    .data
ready:
    .ascii "ready\n"
unharmed:
    .ascii "unharmed\n"
    .bss
buffer:
    .skip 64
    .section .note.GNU-stack,"",@progbits
