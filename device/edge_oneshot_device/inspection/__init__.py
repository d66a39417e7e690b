"""What a bundle holds, in brief, and what two bundles differ in: values only, no text."""
