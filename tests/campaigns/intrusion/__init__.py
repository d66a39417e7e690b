"""What somebody does who can write in the state folder and has no key; and whether the door still holds."""
